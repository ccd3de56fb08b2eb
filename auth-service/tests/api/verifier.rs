//! Services that ask about tokens: who may, and what they are told.

use std::{path::PathBuf, time::Duration};

use service_kit::{assert_refused, on_each_database, random, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, IntrospectRequest, IntrospectResponse, WatchRevocationsRequest,
};
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::support::{self, Server, bearer, execute, issue_service_token as issue, look_up, program};

on_each_database! {
    a_service_token_opens_the_feed_introspection_and_confirmation,
    a_revoked_service_token_ends_what_it_has_opened,
    an_unknown_service_token_is_refused_as_any_other,
    a_person_may_not_ask_about_tokens,
    what_a_live_token_says_is_told,
    a_token_is_inactive_from_the_very_answer_to_the_logout,
    what_is_no_live_access_token_is_inactive_and_nothing_else,
    a_stream_ends_when_the_token_expires_that_opened_it,
    a_stream_ends_when_the_session_is_revoked_that_opened_it,
}

async fn introspect(server: &Server, credential: &str, token: &str) -> Result<IntrospectResponse, Status> {
    let request = bearer(credential, IntrospectRequest { token: token.to_owned(), ..Default::default() });
    server.token().introspect(request).await.map(tonic::Response::into_inner)
}

fn watch(credential: &str) -> Request<WatchRevocationsRequest> {
    bearer(credential, WatchRevocationsRequest {})
}

async fn a_service_token_opens_the_feed_introspection_and_confirmation(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.person("ann@example.com").await;
    let token = issue(&server.database, "billing");
    let hash = look_up(&server.database, "select hash from service_tokens where name = 'billing'").await;
    assert!(token.starts_with("taskey_service_") && token.len() == 58 && !token.contains(&hash));
    let mut feed = server.token().watch_revocations(watch(&token)).await.expect("let in").into_inner();
    let snapshot = feed.message().await.expect("no error").expect("not the end");
    let confirmation = AcknowledgeRevocationsRequest { watch_id: snapshot.watch_id, sequence: snapshot.sequence };
    server.token().acknowledge_revocations(bearer(&token, confirmation)).await.expect("confirmed");
    assert!(introspect(&server, &token, &pair.access_token).await.expect("told").active);
    server.stop().await;
}

async fn a_revoked_service_token_ends_what_it_has_opened(database: TestDatabase) {
    let server = Server::start(database).await;
    let (old, new, other) =
        (issue(&server.database, "billing"), issue(&server.database, "billing"), issue(&server.database, "other"));
    let mut feed = server.token().watch_revocations(watch(&old)).await.expect("let in").into_inner();
    let (good, output, _) = program(&server.database, &["tokens", "revoke-service", "billing"]);
    assert!(good && output.is_empty());
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    })
    .await;
    assert_refused!(ended.expect("the stream ends"), Unauthenticated, "TOKEN_INVALID");
    for token in [&old, &new] {
        assert_refused!(introspect(&server, token, "x").await, Unauthenticated, "TOKEN_INVALID");
    }
    introspect(&server, &other, "x").await.expect("let in");
    let (good, _, error) = program(&server.database, &["tokens", "revoke-service", "billing"]);
    assert!(!good && error.contains("billing has no token"), "{error}");
    server.stop().await;
}

async fn an_unknown_service_token_is_refused_as_any_other(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = issue(&server.database, "billing");
    for wrong in ["taskey_service_", "taskey_service_x", &token[..token.len() - 1], &format!("{token}x"), "x.y.z"] {
        assert_refused!(introspect(&server, wrong, "x").await, Unauthenticated, "TOKEN_INVALID");
        assert_refused!(server.me(wrong).await, Unauthenticated, "TOKEN_INVALID");
    }
    // It is for asking about tokens, and for nothing else.
    assert_refused!(server.me(&token).await, Unauthenticated, "TOKEN_INVALID");
    server.stop().await;
}

async fn a_person_may_not_ask_about_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.person("ann@example.com").await.access_token;
    assert_refused!(introspect(&server, &token, &token).await, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(
        server.token().introspect(IntrospectRequest { token, ..Default::default() }).await,
        Unauthenticated,
        "TOKEN_MISSING"
    );
    server.stop().await;
}

async fn what_a_live_token_says_is_told(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let pair = server.person("ann@example.com").await;
    let user = pair.user.expect("told at login");
    let told = introspect(&server, &credential, &pair.access_token).await.expect("told");
    let (issued, expires) = (told.iat.expect("told"), told.exp.expect("told"));
    assert_eq!(expires - issued, 300);
    assert_eq!(i64::from(expires), pair.access_expire_time.expect("told").seconds);
    assert_eq!(told.jti.as_deref().map(str::len), Some(36));
    let (iss, token_type) = (told.iss.as_deref(), told.token_type.as_deref());
    assert_eq!(
        (told.active, iss, told.aud.as_deref(), token_type),
        (true, Some("taskey"), Some("taskey"), Some("Bearer"))
    );
    assert_eq!((told.sub, told.sid), (Some(user.id), Some(pair.session_id)));
    assert!(told.roles.is_empty());
    server.stop().await;
}

async fn a_token_is_inactive_from_the_very_answer_to_the_logout(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let replica = support::second(&server).await;
    for round in 0..10 {
        let pair = server.person(&format!("{round}@example.com")).await;
        let logout = taskey_proto::auth::v1::LogoutRequest { refresh_token: pair.refresh_token, ..Default::default() };
        replica.auth().logout(logout).await.expect("logged out");
        // The other replica's news may still be on their way.
        assert_eq!(
            introspect(&server, &credential, &pair.access_token).await.expect("told"),
            IntrospectResponse::default()
        );
    }
    replica.stop().await;
    server.stop().await;
}

async fn what_is_no_live_access_token_is_inactive_and_nothing_else(database: TestDatabase) {
    let server = Server::start(database).await;
    let credential = issue(&server.database, "billing");
    let pair = server.person("ann@example.com").await;
    let random = String::from_utf8_lossy(&random::bytes::<64>()).into_owned();
    let long = "x".repeat(16 * 1024);
    for token in ["x", "..", &credential, &pair.refresh_token, &random, &long, &format!("{} ", pair.access_token)] {
        let told = introspect(&server, &credential, token).await.expect("told");
        assert_eq!(told, IntrospectResponse::default());
    }
    assert_refused!(introspect(&server, &credential, "").await, InvalidArgument, "VALIDATION_FAILED", "token");
    server.hands.advance(Duration::from_secs(306));
    let told = introspect(&server, &credential, &pair.access_token).await.expect("told");
    assert_eq!(told, IntrospectResponse::default());
    server.stop().await;
}

/// Makes a person a verifier, which no command does: people are none.
async fn verifying_person(server: &Server) -> taskey_proto::auth::v1::TokenPair {
    server.sign_up("ann@example.com").await.expect("signed up");
    execute(&server.database, "update users set roles = 'verifier'").await;
    server.login("ann@example.com", support::PASSWORD).await.expect("logged in")
}

async fn a_stream_ends_when_the_token_expires_that_opened_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = verifying_person(&server).await;
    let mut feed = server.token().watch_revocations(watch(&pair.access_token)).await.expect("let in").into_inner();
    feed.message().await.expect("no error").expect("not the end");
    server.hands.advance(Duration::from_secs(306));
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    })
    .await;
    assert_refused!(ended.expect("the stream ends"), Unauthenticated, "TOKEN_EXPIRED");
    server.stop().await;
}

async fn a_stream_ends_when_the_session_is_revoked_that_opened_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = verifying_person(&server).await;
    let mut feed = server.token().watch_revocations(watch(&pair.access_token)).await.expect("let in").into_inner();
    feed.message().await.expect("no error").expect("not the end");
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
fn a_name_that_is_none_makes_no_token() {
    let database = TestDatabase::sqlite();
    for name in ["", "two words", "a/b"] {
        let (good, output, error) = program(&database, &["tokens", "issue-service", name]);
        assert!(!good && output.is_empty() && error.contains("letters"), "{error}");
    }
    assert!(!PathBuf::from(database.url().trim_start_matches("sqlite:")).exists());
}
