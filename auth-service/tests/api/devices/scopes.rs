//! The session of a device permits the scopes that the user has seen, and no others.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    IssueTokenRequest, IssueTokenResponse, UpdateMeRequest, account_service_client::AccountServiceClient,
};

use super::{CLIENT, approve, get, poll, request_codes, sessions};
use crate::{
    factors::reauthentication::{password, reauthenticate},
    forged_claims::{forge_with_scopes, id},
    oauth::{introspect, issue},
    personal_access_tokens,
    support::{PASSWORD, Server, bearer},
};

on_each_database! {
    the_session_of_a_device_permits_only_its_scopes,
    a_forged_scope_is_refused,
    a_device_creates_no_token_beyond_its_scopes,
    a_refresh_returns_the_account_only_to_devices_that_can_read_it,
}

/// Returns the tokens of a device with these scopes.
async fn log_in(server: &Server, access_token: &str, scope: &str) -> IssueTokenResponse {
    let device = request_codes(server, CLIENT, scope).await.expect("codes");
    let shown = get(server, access_token, &device.user_code).await.expect("found");
    assert_eq!(shown.scopes.join(" "), scope);
    approve(server, access_token, &device.user_code).await.expect("approved");
    poll(server, &device).await.expect("issued")
}

async fn assert_only_reads(server: &Server, access_token: &str, scope: &str) {
    server.get_me(access_token).await.expect("permitted");
    let rename = bearer(access_token, UpdateMeRequest::default());
    let outcome = AccountServiceClient::new(server.channel.clone()).update_me(rename).await;
    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
    assert_eq!(introspect(server, access_token).await.scope.as_deref(), Some(scope));
}

async fn the_session_of_a_device_permits_only_its_scopes(database: TestDatabase) {
    const SCOPE: &str = "tasks.read account.read";
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let issued = log_in(&server, &ann, SCOPE).await;
    assert_eq!(issued.scope.as_deref(), Some(SCOPE));
    assert_only_reads(&server, &issued.access_token, SCOPE).await;
    let refreshed = server.refresh(&issued.refresh_token.expect("a refresh token")).await.expect("refreshed");
    assert_only_reads(&server, &refreshed.access_token, SCOPE).await;
    let request = IssueTokenRequest {
        grant_type: "refresh_token".to_owned(),
        refresh_token: refreshed.refresh_token,
        ..Default::default()
    };
    for session in sessions(&server, &refreshed.access_token).await {
        assert_eq!(session.scopes.join(" "), if session.current { SCOPE } else { "" }, "{session:?}");
    }
    let again = issue(&server, request).await.expect("refreshed");
    assert_eq!(again.scope.as_deref(), Some(SCOPE));
    assert_only_reads(&server, &again.access_token, SCOPE).await;
    server.stop().await;
}

async fn a_forged_scope_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let issued = log_in(&server, &ann, "account.read").await;
    let claims = introspect(&server, &issued.access_token).await;
    let (user_id, session_id) = (id(&claims.sub.expect("an id")), id(&claims.sid.expect("an id")));
    let wider = [service_kit::auth::scope::Scope::AccountRead, service_kit::auth::scope::Scope::TasksRead];
    for scopes in [None, Some(wider.into_iter().collect())] {
        let forged = forge_with_scopes(&server, user_id, session_id, &[], scopes);
        assert_refused!(server.get_me(&forged).await, Unauthenticated, "TOKEN_REVOKED");
    }
    let narrow = forge_with_scopes(&server, user_id, session_id, &[], Some(wider[..1].iter().copied().collect()));
    server.get_me(&narrow).await.expect("permitted");
    server.stop().await;
}

async fn a_device_creates_no_token_beyond_its_scopes(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let issued = log_in(&server, &ann, "account.write").await;
    let request = personal_access_tokens::with_scopes(&["tasks.read"]);
    let outcome = personal_access_tokens::create(&server, &issued.access_token, request).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "scopes[0]");
    let renewed = reauthenticate(&server, &issued.access_token, password(PASSWORD)).await.expect("proved");
    assert_eq!(introspect(&server, &renewed.access_token).await.scope.as_deref(), Some("account.write"));
    server.stop().await;
}

async fn a_refresh_returns_the_account_only_to_devices_that_can_read_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    for (scope, can_read) in
        [("tasks.read", false), ("account.write", false), ("tasks.read account.read", true), ("", true)]
    {
        let issued = log_in(&server, &ann.access_token, scope).await;
        let refreshed = server.refresh(&issued.refresh_token.expect("a refresh token")).await.expect("refreshed");
        assert_eq!(refreshed.user, ann.user.clone().filter(|_| can_read), "{scope:?}");
    }
    server.stop().await;
}
