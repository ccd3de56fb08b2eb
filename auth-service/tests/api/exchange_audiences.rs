//! Token exchange for services with an audience of their own.

use service_kit::{
    assert_refused,
    auth::{
        keys::KeySet,
        token::{self, TokenError},
    },
    on_each_database,
    ops::config::TokenArgs,
    testing::TestDatabase,
};
use taskey_proto::auth::v1::{
    IntrospectRequest, IntrospectResponse, IssueTokenRequest, RevokeTokenRequest, ServiceAccount, TokenPair,
};
use tonic::Status;

use crate::{
    forged_claims::{id, sign_up_admin},
    oauth::{assert_error, client, introspect, issue, request_of},
    service_accounts::{created, events_of},
    support::{Server, user_id, verifier_request},
    token_exchange::{FORWARDING, actor_ids, claims_for, exchange_request},
};

on_each_database! {
    a_token_can_be_exchanged_for_another_audience,
    the_receiving_service_can_exchange_the_token_again,
    only_audiences_of_the_server_can_be_requested,
    only_a_token_exchange_can_request_another_audience,
    a_token_for_another_audience_ends_with_the_session,
}

/// Starts a server with further audiences, a user, two services, and an administrator.
async fn start(database: TestDatabase) -> (Server, TokenPair, [ServiceAccount; 2], String) {
    let flags = ["--exchange-audience", "reports", "--exchange-audience", "https://mail.example.org"];
    let server = Server::start_with(database, &flags).await;
    let admin = sign_up_admin(&server).await.access_token;
    let services = [created(&server, &admin, &FORWARDING).await, created(&server, &admin, &FORWARDING).await];
    let ann = server.sign_up_and_login("ann@example.com").await;
    (server, ann, services, admin)
}

/// Exchanges a token for this audience.
async fn exchange(server: &Server, account: &ServiceAccount, token: &str, audience: &str) -> Result<String, Status> {
    let audience = audience.to_owned();
    let request = IssueTokenRequest { audience, ..exchange_request(account, token, "tasks.read") };
    issue(server, request).await.map(|issued| issued.access_token)
}

/// Introspects a token as a service with this audience.
async fn introspect_for(server: &Server, token: &str, audience: &str) -> IntrospectResponse {
    let request =
        IntrospectRequest { token: token.to_owned(), audience: audience.to_owned(), ..IntrospectRequest::default() };
    let request = verifier_request(server, request).await;
    server.token().introspect(request).await.expect("introspected").into_inner()
}

/// Verifies a token as a service with this audience.
fn verify(server: &Server, token: &str, audience: &str) -> Result<(), TokenError> {
    let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
    let args = TokenArgs { issuer: "taskey".to_owned(), audience: audience.to_owned() };
    token::verify(&keys, &args, token, server.clock.now()).map(drop)
}

async fn a_token_can_be_exchanged_for_another_audience(database: TestDatabase) {
    let (server, ann, [service, _], admin) = start(database).await;
    let token = exchange(&server, &service, &ann.access_token, "reports").await.expect("exchanged");
    assert_eq!(verify(&server, &token, "reports"), Ok(()));
    for other in ["taskey", "https://mail.example.org", "Reports", ""] {
        assert_eq!(verify(&server, &token, other), Err(TokenError::Invalid), "{other:?}");
    }
    assert_refused!(server.get_me(&token).await, Unauthenticated, "TOKEN_INVALID");
    let introspected = introspect_for(&server, &token, "reports").await;
    assert!(introspected.active);
    assert_eq!((introspected.aud.as_deref(), introspected.sub), (Some("reports"), Some(user_id(&ann))));
    assert_eq!(introspected.act.expect("an actor").sub, service.id);
    assert_eq!(introspect_for(&server, &token, "https://mail.example.org").await, IntrospectResponse::default());
    assert_eq!(introspect(&server, &token).await, IntrospectResponse::default());
    assert_eq!(introspect_for(&server, &ann.access_token, "reports").await, IntrospectResponse::default());
    let events = events_of(&server, &admin, &user_id(&ann)).await;
    let exchanged = events.iter().find(|event| event.kind().as_str_name() == "KIND_TOKEN_EXCHANGED");
    assert_eq!(exchanged.expect("an event").details["audience"], "reports");

    // RFC 8707.
    let resource = "https://mail.example.org".to_owned();
    let request = exchange_request(&service, &ann.access_token, "");
    for audience in [String::new(), resource.clone()] {
        let request = IssueTokenRequest { resource: resource.clone(), audience, ..request.clone() };
        let token = issue(&server, request).await.expect("exchanged").access_token;
        assert_eq!(verify(&server, &token, "https://mail.example.org"), Ok(()));
    }
    server.stop().await;
}

async fn the_receiving_service_can_exchange_the_token_again(database: TestDatabase) {
    let (server, ann, [first, second], _) = start(database).await;
    let token = exchange(&server, &first, &ann.access_token, "reports").await.expect("exchanged");
    let again = exchange(&server, &second, &token, "").await.expect("exchanged");
    let claims = claims_for(&server, &again, "taskey");
    assert_eq!(actor_ids(&claims), [id(&second.id), id(&first.id)]);
    assert_eq!((claims.user_id, claims.session_id), (id(&user_id(&ann)), id(&ann.session_id)));
    assert!(introspect(&server, &again).await.active);
    let repeated = exchange(&server, &first, &token, "https://mail.example.org").await;
    assert_error(repeated, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn only_audiences_of_the_server_can_be_requested(database: TestDatabase) {
    let (server, ann, [service, _], _) = start(database).await;
    for audience in ["other", "REPORTS", "reports ", "reports,https://mail.example.org"] {
        let refused = exchange(&server, &service, &ann.access_token, audience).await;
        assert_error(refused, "VALIDATION_FAILED", "invalid_target");
    }
    let request = exchange_request(&service, &ann.access_token, "");
    let names = |audience: &str, resource: &str| IssueTokenRequest {
        audience: audience.to_owned(),
        resource: resource.to_owned(),
        ..request.clone()
    };
    for refused in [names("", "https://other.example.org"), names("reports", "https://mail.example.org")] {
        assert_error(issue(&server, refused).await, "VALIDATION_FAILED", "invalid_target");
    }
    // A server that no longer has an audience does not exchange tokens for it.
    let token = exchange(&server, &service, &ann.access_token, "reports").await.expect("exchanged");
    let server = Server::start(server.stop().await).await;
    let refused = exchange(&server, &service, &token, "").await;
    assert_error(refused, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn only_a_token_exchange_can_request_another_audience(database: TestDatabase) {
    let (server, ann, [service, _], _) = start(database).await;
    let refresh_token = ann.refresh_token.clone();
    for request in [
        request_of(&service, "client_credentials", ""),
        IssueTokenRequest { grant_type: "refresh_token".to_owned(), refresh_token, ..IssueTokenRequest::default() },
    ] {
        let refused = IssueTokenRequest { audience: "reports".to_owned(), ..request.clone() };
        assert_error(issue(&server, refused).await, "VALIDATION_FAILED", "invalid_target");
        let token = issue(&server, IssueTokenRequest { audience: "taskey".to_owned(), ..request }).await;
        assert_eq!(verify(&server, &token.expect("issued").access_token, "taskey"), Ok(()));
    }
    server.stop().await;
}

async fn a_token_for_another_audience_ends_with_the_session(database: TestDatabase) {
    let (server, ann, [first, second], _) = start(database).await;
    let token = exchange(&server, &first, &ann.access_token, "reports").await.expect("exchanged");
    let request = RevokeTokenRequest { token: token.clone(), ..RevokeTokenRequest::default() };
    let revoked = client(&server).revoke_token(request).await;
    assert_error(revoked, "VALIDATION_FAILED", "unsupported_token_type");
    assert!(introspect_for(&server, &token, "reports").await.active);
    server.logout(&ann.refresh_token).await.expect("logged out");
    assert!(!introspect_for(&server, &token, "reports").await.active);
    let refused = exchange(&server, &second, &token, "").await;
    assert_error(refused, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}
