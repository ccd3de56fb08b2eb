//! The token service: who may watch revocations and introspect tokens, and what introspection returns.

use std::{path::PathBuf, time::Duration};

use service_kit::{assert_refused, on_each_database, random, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, IntrospectRequest, IntrospectResponse, WatchRevocationsRequest,
};
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::support::{self, Server, bearer, execute, issue_service_token as issue, query_string, run_program};

on_each_database! {
    a_service_token_may_watch_acknowledge_and_introspect,
    revoking_a_service_token_ends_its_streams,
    an_unknown_service_token_is_refused_like_any_invalid_token,
    users_may_not_introspect_tokens,
    introspection_returns_the_claims_of_an_active_token,
    a_token_is_inactive_as_soon_as_the_logout_returns,
    introspecting_anything_but_an_active_access_token_returns_only_inactive,
    a_stream_ends_when_its_token_expires,
    a_stream_ends_when_its_session_is_revoked,
}

async fn introspect(server: &Server, credential: &str, token: &str) -> Result<IntrospectResponse, Status> {
    let request = bearer(credential, IntrospectRequest { token: token.to_owned(), ..Default::default() });
    server.token().introspect(request).await.map(tonic::Response::into_inner)
}

fn watch(credential: &str) -> Request<WatchRevocationsRequest> {
    bearer(credential, WatchRevocationsRequest {})
}

async fn a_service_token_may_watch_acknowledge_and_introspect(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let token = issue(&server.database, "billing");
    let hash = query_string(&server.database, "select hash from service_tokens where name = 'billing'").await;
    assert!(token.starts_with("taskey_service_") && token.len() == 58 && !token.contains(&hash));
    let mut feed = server.token().watch_revocations(watch(&token)).await.expect("the stream opens").into_inner();
    let snapshot = feed.message().await.expect("no error").expect("the stream is open");
    let acknowledgment = AcknowledgeRevocationsRequest { watch_id: snapshot.watch_id, sequence: snapshot.sequence };
    server.token().acknowledge_revocations(bearer(&token, acknowledgment)).await.expect("acknowledged");
    assert!(introspect(&server, &token, &pair.access_token).await.expect("introspected").active);
    server.stop().await;
}

async fn revoking_a_service_token_ends_its_streams(database: TestDatabase) {
    let server = Server::start(database).await;
    let (old, new, other) =
        (issue(&server.database, "billing"), issue(&server.database, "billing"), issue(&server.database, "other"));
    let mut feed = server.token().watch_revocations(watch(&old)).await.expect("the stream opens").into_inner();
    let (succeeded, output, _) = run_program(&server.database, &["tokens", "revoke-service", "billing"]);
    assert!(succeeded && output.is_empty());
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    })
    .await;
    assert_refused!(ended.expect("the stream ends"), Unauthenticated, "TOKEN_INVALID");
    for token in [&old, &new] {
        assert_refused!(introspect(&server, token, "x").await, Unauthenticated, "TOKEN_INVALID");
    }
    introspect(&server, &other, "x").await.expect("introspected");
    let (succeeded, _, error) = run_program(&server.database, &["tokens", "revoke-service", "billing"]);
    assert!(!succeeded && error.contains("billing has no token and no certificate"), "{error}");
    server.stop().await;
}

async fn an_unknown_service_token_is_refused_like_any_invalid_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = issue(&server.database, "billing");
    for wrong in ["taskey_service_", "taskey_service_x", &token[..token.len() - 1], &format!("{token}x"), "x.y.z"] {
        assert_refused!(introspect(&server, wrong, "x").await, Unauthenticated, "TOKEN_INVALID");
        assert_refused!(server.get_me(wrong).await, Unauthenticated, "TOKEN_INVALID");
    }
    // As a bearer token, only the token service accepts it.
    assert_refused!(server.get_me(&token).await, Unauthenticated, "TOKEN_INVALID");
    server.stop().await;
}

async fn users_may_not_introspect_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.sign_up_and_login("ann@example.com").await.access_token;
    assert_refused!(introspect(&server, &token, &token).await, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(
        server.token().introspect(IntrospectRequest { token, ..Default::default() }).await,
        Unauthenticated,
        "TOKEN_MISSING"
    );
    server.stop().await;
}

async fn introspection_returns_the_claims_of_an_active_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let pair = server.sign_up_and_login("ann@example.com").await;
    let user = pair.user.expect("login returns the user");
    let introspected = introspect(&server, &credential, &pair.access_token).await.expect("introspected");
    let (issued, expires) = (introspected.iat.expect("set"), introspected.exp.expect("set"));
    assert_eq!(expires - issued, 300);
    assert_eq!(i64::from(expires), pair.access_expire_time.expect("set").seconds);
    assert_eq!(introspected.jti.as_deref().map(str::len), Some(36));
    let (iss, token_type) = (introspected.iss.as_deref(), introspected.token_type.as_deref());
    assert_eq!(
        (introspected.active, iss, introspected.aud.as_deref(), token_type),
        (true, Some("taskey"), Some("taskey"), Some("Bearer"))
    );
    assert_eq!((introspected.sub, introspected.sid), (Some(user.id), Some(pair.session_id)));
    assert!(introspected.roles.is_empty());
    server.stop().await;
}

async fn a_token_is_inactive_as_soon_as_the_logout_returns(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let replica = support::start_replica(&server).await;
    for round in 0..10 {
        let pair = server.sign_up_and_login(&format!("{round}@example.com")).await;
        let logout = taskey_proto::auth::v1::LogoutRequest { refresh_token: pair.refresh_token, ..Default::default() };
        replica.auth().logout(logout).await.expect("logged out");
        // This server may not have received the revocation from the other replica yet.
        assert_eq!(
            introspect(&server, &credential, &pair.access_token).await.expect("introspected"),
            IntrospectResponse::default()
        );
    }
    replica.stop().await;
    server.stop().await;
}

async fn introspecting_anything_but_an_active_access_token_returns_only_inactive(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let pair = server.sign_up_and_login("ann@example.com").await;
    let random = String::from_utf8_lossy(&random::bytes::<64>()).into_owned();
    let long = "x".repeat(16 * 1024);
    for token in ["x", "..", &credential, &pair.refresh_token, &random, &long, &format!("{} ", pair.access_token)] {
        let introspected = introspect(&server, &credential, token).await.expect("introspected");
        assert_eq!(introspected, IntrospectResponse::default());
    }
    assert_refused!(introspect(&server, &credential, "").await, InvalidArgument, "VALIDATION_FAILED", "token");
    server.manual_clock.advance(Duration::from_secs(306));
    let introspected = introspect(&server, &credential, &pair.access_token).await.expect("introspected");
    assert_eq!(introspected, IntrospectResponse::default());
    server.stop().await;
}

/// Signs up a user with the role `verifier`, which is set directly in the database, and logs in.
async fn log_in_as_verifier(server: &Server) -> taskey_proto::auth::v1::TokenPair {
    server.sign_up("ann@example.com").await.expect("signed up");
    execute(&server.database, "update users set roles = 'verifier'").await;
    server.login("ann@example.com", support::PASSWORD).await.expect("logged in")
}

async fn a_stream_ends_when_its_token_expires(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = log_in_as_verifier(&server).await;
    let mut feed =
        server.token().watch_revocations(watch(&pair.access_token)).await.expect("the stream opens").into_inner();
    feed.message().await.expect("no error").expect("the stream is open");
    server.manual_clock.advance(Duration::from_secs(306));
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    })
    .await;
    assert_refused!(ended.expect("the stream ends"), Unauthenticated, "TOKEN_EXPIRED");
    server.stop().await;
}

async fn a_stream_ends_when_its_session_is_revoked(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = log_in_as_verifier(&server).await;
    let mut feed =
        server.token().watch_revocations(watch(&pair.access_token)).await.expect("the stream opens").into_inner();
    feed.message().await.expect("no error").expect("the stream is open");
    server.logout(&pair.refresh_token).await.expect("logged out");
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    })
    .await;
    assert_refused!(ended.expect("the stream ends"), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

#[test]
fn an_invalid_service_name_creates_no_token() {
    let database = TestDatabase::sqlite();
    for name in ["", "two words", "a/b"] {
        let (succeeded, output, error) = run_program(&database, &["tokens", "issue-service", name]);
        assert!(!succeeded && output.is_empty() && error.contains("letters"), "{error}");
    }
    assert!(!PathBuf::from(database.url().trim_start_matches("sqlite:")).exists());
}
