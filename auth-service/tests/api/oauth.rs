//! The grants of OAuth 2.0 and the revocation of tokens, over gRPC. Token exchange has tests of its own.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    IntrospectRequest, IntrospectResponse, IssueTokenRequest, IssueTokenResponse, RevokeTokenRequest, ServiceAccount,
    o_auth_service_client::OAuthServiceClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    forged_claims::sign_up_admin,
    personal_access_tokens,
    service_accounts::{created, delete},
    support::{Server, bearer, user_id, verifier_request},
};

on_each_database! {
    a_service_account_gets_a_token_with_its_scopes,
    each_token_of_a_service_account_has_a_session_of_its_own,
    a_verifier_can_be_a_service_account,
    requests_with_invalid_parameters_are_refused,
    clients_that_do_not_authenticate_are_refused,
    a_user_refreshes_a_session,
    a_user_revokes_a_session,
    a_service_account_revokes_only_its_own_tokens,
    wrong_secrets_are_limited_like_wrong_passwords,
    tokens_of_a_service_account_are_limited,
}

pub fn client(server: &Server) -> OAuthServiceClient<Channel> {
    OAuthServiceClient::new(server.channel.clone())
}

/// Returns a request of a service account.
pub fn request_of(account: &ServiceAccount, grant_type: &str, scope: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        grant_type: grant_type.to_owned(),
        client_id: account.id.clone(),
        client_secret: account.secret.clone(),
        scope: scope.to_owned(),
        ..Default::default()
    }
}

pub async fn issue(server: &Server, request: IssueTokenRequest) -> Result<IssueTokenResponse, Status> {
    client(server).issue_token(request).await.map(tonic::Response::into_inner)
}

/// Requests a token with which a service account calls for itself.
pub async fn client_token(
    server: &Server,
    account: &ServiceAccount,
    scope: &str,
) -> Result<IssueTokenResponse, Status> {
    issue(server, request_of(account, "client_credentials", scope)).await
}

pub async fn introspect(server: &Server, token: &str) -> IntrospectResponse {
    let request = IntrospectRequest { token: token.to_owned(), ..Default::default() };
    let request = verifier_request(server, request).await;
    server.token().introspect(request).await.expect("introspected").into_inner()
}

async fn revoke(server: &Server, token: &str, account: Option<&ServiceAccount>) -> Result<(), Status> {
    let (client_id, client_secret) =
        account.map(|account| (account.id.clone(), account.secret.clone())).unwrap_or_default();
    let request = RevokeTokenRequest { token: token.to_owned(), client_id, client_secret, ..Default::default() };
    client(server).revoke_token(request).await.map(drop)
}

/// Asserts the reason and the `error` of OAuth 2.0.
#[track_caller]
pub fn assert_error<T: std::fmt::Debug>(outcome: Result<T, Status>, reason: &str, error: &str) {
    let status = outcome.expect_err("refused");
    let metadata = status.get_details_error_info().expect("a reason").metadata;
    assert_eq!((refusal(&status).1.as_str(), metadata.get("error").map(String::as_str)), (reason, Some(error)));
}

async fn a_service_account_gets_a_token_with_its_scopes(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read", "tasks.write"]).await;
    let issued = client_token(&server, &account, "").await.expect("issued");
    assert_eq!((&issued.token_type[..], issued.expires_in), ("Bearer", 300));
    assert_eq!(issued.scope.as_deref(), Some("tasks.read tasks.write"));
    assert_eq!((issued.refresh_token, issued.issued_token_type), (None, None));
    let claims = introspect(&server, &issued.access_token).await;
    assert!(claims.active && claims.roles.is_empty() && claims.act.is_none(), "{claims:?}");
    assert_eq!((claims.sub, claims.scope), (Some(account.id.clone()), issued.scope));
    let narrow = client_token(&server, &account, "tasks.read").await.expect("issued");
    assert_eq!(introspect(&server, &narrow.access_token).await.scope.as_deref(), Some("tasks.read"));
    assert_refused!(server.get_me(&narrow.access_token).await, PermissionDenied, "SCOPE_MISSING");
    server.manual_clock.advance(Duration::from_secs(306));
    assert!(!introspect(&server, &narrow.access_token).await.active, "it expires");
    server.stop().await;
}

async fn each_token_of_a_service_account_has_a_session_of_its_own(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read"]).await;
    let first = client_token(&server, &account, "").await.expect("issued").access_token;
    let second = client_token(&server, &account, "").await.expect("issued").access_token;
    revoke(&server, &first, Some(&account)).await.expect("revoked");
    assert!(!introspect(&server, &first).await.active);
    assert!(introspect(&server, &second).await.active);
    server.stop().await;
}

async fn a_verifier_can_be_a_service_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tokens.verify", "tasks.read"]).await;
    let verifier = client_token(&server, &account, "tokens.verify").await.expect("issued").access_token;
    let request = IntrospectRequest { token: admin.clone(), ..Default::default() };
    let introspected = server.token().introspect(bearer(&verifier, request.clone())).await.expect("introspected");
    assert!(introspected.into_inner().active);
    let other = client_token(&server, &account, "tasks.read").await.expect("issued").access_token;
    let outcome = server.token().introspect(bearer(&other, request)).await;
    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
    assert_eq!(introspect(&server, &verifier).await.roles, ["verifier"]);
    server.stop().await;
}

async fn requests_with_invalid_parameters_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read", "tasks.write"]).await;
    for scope in ["admin.read", "clients.forward", "tasks.read tasks.read", "x", "tasks.read  tasks.write", " "] {
        assert_error(client_token(&server, &account, scope).await, "SCOPE_INVALID", "invalid_scope");
    }
    for grant_type in ["password", "authorization_code", "client_credentials "] {
        let outcome = issue(&server, request_of(&account, grant_type, "")).await;
        assert_error(outcome, "GRANT_TYPE_UNSUPPORTED", "unsupported_grant_type");
    }
    assert_error(issue(&server, request_of(&account, "", "")).await, "VALIDATION_FAILED", "invalid_request");
    let request = request_of(&account, "client_credentials", "");
    for other in [
        IssueTokenRequest { audience: "other".to_owned(), ..request.clone() },
        IssueTokenRequest { resource: "https://example.org".to_owned(), ..request.clone() },
    ] {
        assert_error(issue(&server, other).await, "VALIDATION_FAILED", "invalid_target");
    }
    issue(&server, IssueTokenRequest { audience: "taskey".to_owned(), ..request }).await.expect("issued");
    server.stop().await;
}

async fn clients_that_do_not_authenticate_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    let account = created(&server, &admin.access_token, &["tasks.read"]).await;
    let other = created(&server, &admin.access_token, &["tasks.read"]).await;
    for (id, secret) in [
        ("", ""),
        ("x", "x"),
        (&account.id[..], ""),
        (&account.id, "x"),
        (&account.id, &other.secret),
        (&other.id, &account.secret),
        (&user_id(&admin), &account.secret),
        ("0198c0de-0000-7000-8000-000000000000", &account.secret),
    ] {
        let client = ServiceAccount { id: id.to_owned(), secret: secret.to_owned(), ..account.clone() };
        assert_error(client_token(&server, &client, "").await, "CLIENT_INVALID", "invalid_client");
    }
    client_token(&server, &account, "").await.expect("issued");
    server.stop().await;
}

async fn a_user_refreshes_a_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let refresh = |token: &str| IssueTokenRequest {
        grant_type: "refresh_token".to_owned(),
        refresh_token: token.to_owned(),
        ..Default::default()
    };
    let issued = issue(&server, refresh(&pair.refresh_token)).await.expect("issued");
    // The time to the end of the second is lost.
    assert!((299..=300).contains(&issued.expires_in) && issued.scope.is_none(), "{}", issued.expires_in);
    server.get_me(&issued.access_token).await.expect("permitted");
    let next = issued.refresh_token.expect("a refresh token");
    let issued = issue(&server, refresh(&next)).await.expect("issued");
    let with_scope = IssueTokenRequest { scope: "tasks.read".to_owned(), ..refresh(&next) };
    assert_error(issue(&server, with_scope).await, "SCOPE_INVALID", "invalid_scope");
    assert_error(issue(&server, refresh("")).await, "VALIDATION_FAILED", "invalid_request");
    assert_error(issue(&server, refresh("x")).await, "GRANT_INVALID", "invalid_grant");
    server.manual_clock.advance(Duration::from_secs(61));
    assert_error(issue(&server, refresh(&pair.refresh_token)).await, "GRANT_INVALID", "invalid_grant");
    let revoked = issue(&server, refresh(&issued.refresh_token.expect("a refresh token"))).await;
    assert_error(revoked, "GRANT_INVALID", "invalid_grant");
    server.stop().await;
}

async fn a_user_revokes_a_session(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let admin = sign_up_admin(&server).await.access_token;
    let pairs = [(); 2].map(async |()| server.login("ann@example.com", crate::support::PASSWORD).await);
    let [first, second] = &futures::future::join_all(pairs).await[..] else { panic!("two") };
    let (first, second) = (first.as_ref().expect("logged in"), second.as_ref().expect("logged in"));
    revoke(&server, &first.refresh_token, None).await.expect("revoked");
    assert!(!introspect(&server, &first.access_token).await.active);
    assert!(introspect(&server, &second.access_token).await.active);
    revoke(&server, &second.access_token, None).await.expect("revoked");
    assert_refused!(server.refresh(&second.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    let public = ServiceAccount { id: "any".to_owned(), ..Default::default() };
    revoke(&server, &second.access_token, Some(&public)).await.expect("not an error");
    for unknown in ["x", &first.refresh_token, &second.access_token] {
        revoke(&server, unknown, None).await.expect("not an error");
    }
    assert_error(revoke(&server, "", None).await, "VALIDATION_FAILED", "invalid_request");
    assert_error(revoke(&server, &"x".repeat(5000), None).await, "VALIDATION_FAILED", "invalid_request");
    let personal = personal_access_tokens::created(&server, &admin, &["tasks.read"]).await.secret;
    assert_error(revoke(&server, &personal, None).await, "VALIDATION_FAILED", "unsupported_token_type");
    server.stop().await;
}

async fn a_service_account_revokes_only_its_own_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read"]).await;
    let other = created(&server, &admin, &["tasks.read"]).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    assert_error(revoke(&server, &token, None).await, "CLIENT_INVALID", "invalid_client");
    assert_error(revoke(&server, &token, Some(&other)).await, "CLIENT_INVALID", "invalid_client");
    let wrong = ServiceAccount { secret: "x".to_owned(), ..account.clone() };
    assert_error(revoke(&server, &token, Some(&wrong)).await, "CLIENT_INVALID", "invalid_client");
    assert!(introspect(&server, &token).await.active);
    delete(&server, &admin, &other.id).await.expect("deleted");
    revoke(&server, &token, Some(&account)).await.expect("revoked");
    assert!(!introspect(&server, &token).await.active);
    server.stop().await;
}

async fn wrong_secrets_are_limited_like_wrong_passwords(database: TestDatabase) {
    let flags = ["--rate-limits", "on", "--login-rate", "5+1/h"];
    let server = Server::start_with(database, &flags).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read"]).await;
    let wrong = ServiceAccount { secret: "x".to_owned(), ..account.clone() };
    assert_refused!(client_token(&server, &wrong, "").await, Unauthenticated, "CLIENT_INVALID");
    assert_refused!(client_token(&server, &account, "").await, ResourceExhausted, "RATE_LIMITED");
    server.manual_clock.advance(Duration::from_secs(1));
    client_token(&server, &account, "").await.expect("issued");
    // Successes do not count against the address, and other service accounts are not delayed.
    for _ in 0..10 {
        client_token(&server, &account, "").await.expect("issued");
    }
    for _ in 0..4 {
        let unknown = ServiceAccount { id: server.clock.new_id().to_string(), ..account.clone() };
        assert_refused!(client_token(&server, &unknown, "").await, Unauthenticated, "CLIENT_INVALID");
    }
    assert_refused!(client_token(&server, &account, "").await, ResourceExhausted, "RATE_LIMITED");
    server.stop().await;
}

async fn tokens_of_a_service_account_are_limited(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on"]).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read"]).await;
    let other = created(&server, &admin, &["tasks.read"]).await;
    for _ in 0..120 {
        client_token(&server, &account, "").await.expect("issued");
    }
    assert_refused!(client_token(&server, &account, "").await, ResourceExhausted, "RATE_LIMITED");
    client_token(&server, &other, "").await.expect("issued");
    server.manual_clock.advance(Duration::from_millis(500));
    client_token(&server, &account, "").await.expect("issued");
    server.stop().await;
}
