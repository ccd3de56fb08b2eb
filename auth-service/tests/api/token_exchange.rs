//! Token exchange (RFC 8693): services act on behalf of users.

use std::time::Duration;

use service_kit::{
    assert_refused,
    auth::{
        claims::AccessClaims,
        keys::KeySet,
        scope::{Scope, Scopes},
        token,
    },
    on_each_database,
    ops::config::TokenArgs,
    testing::TestDatabase,
};
use taskey_proto::auth::v1::{
    IssueTokenRequest, IssueTokenResponse, LogoutRequest, RevokeTokenRequest, ServiceAccount, TokenPair,
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    factors::reauthentication::{password, reauthenticate},
    forged_claims::{forge_with_scopes, id, sign_up_admin},
    oauth::{assert_error, client, client_token, introspect, issue, request_of},
    personal_access_tokens,
    service_accounts::{created, events_of},
    support::{PASSWORD, Server, bearer, user_id},
};

on_each_database! {
    a_service_gets_a_token_for_a_user,
    the_token_has_the_time_at_which_the_user_proved_a_factor,
    the_token_ends_with_the_session_of_the_user,
    the_token_expires_with_the_token_of_the_user,
    the_token_permits_no_more_than_the_service_and_the_user,
    at_most_three_services_act_one_after_another_and_none_twice,
    only_valid_access_tokens_of_users_are_exchanged,
    only_services_with_the_scope_exchange_tokens,
    a_token_of_an_exchange_cannot_be_revoked_by_the_service,
    a_token_of_an_exchange_does_not_log_the_user_out,
    exchanges_are_audited_once_per_hour,
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The scopes of services that act on behalf of users.
pub const FORWARDING: [&str; 3] = ["tasks.read", "tasks.write", "clients.forward"];

pub fn exchange_request(account: &ServiceAccount, subject_token: &str, scope: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        subject_token: subject_token.to_owned(),
        subject_token_type: ACCESS_TOKEN.to_owned(),
        ..request_of(account, EXCHANGE, scope)
    }
}

pub async fn exchange(
    server: &Server,
    account: &ServiceAccount,
    subject_token: &str,
    scope: &str,
) -> Result<IssueTokenResponse, Status> {
    issue(server, exchange_request(account, subject_token, scope)).await
}

/// Starts a server with a user, and with a service that acts on behalf of users. Returns the access token of the
/// administrator, too.
pub async fn start(database: TestDatabase) -> (Server, TokenPair, ServiceAccount, String) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &FORWARDING).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    (server, ann, account, admin)
}

/// Returns the claims of a token, which the server has signed.
pub fn claims(server: &Server, token: &str) -> AccessClaims {
    claims_for(server, token, "taskey")
}

/// Returns the claims of a token for this audience.
pub fn claims_for(server: &Server, token: &str, audience: &str) -> AccessClaims {
    let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
    let args = TokenArgs { audience: audience.to_owned(), ..token_args("taskey") };
    token::verify(&keys, &args, token, server.clock.now()).expect("a valid token")
}

/// Returns the service accounts that act for the user, the current one first.
pub fn actor_ids(claims: &AccessClaims) -> Vec<Uuid> {
    claims.actors.iter().map(|actor| actor.id).collect()
}

fn token_args(issuer: &str) -> TokenArgs {
    TokenArgs { issuer: issuer.to_owned(), audience: "taskey".to_owned() }
}

async fn a_service_gets_a_token_for_a_user(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let issued = exchange(&server, &account, &ann.access_token, "tasks.read").await.expect("exchanged");
    assert_eq!(issued.issued_token_type.as_deref(), Some(ACCESS_TOKEN));
    assert_eq!((issued.scope.as_deref(), issued.refresh_token), (Some("tasks.read"), None));
    let (original, exchanged) = (claims(&server, &ann.access_token), claims(&server, &issued.access_token));
    assert_eq!((exchanged.user_id, exchanged.session_id), (original.user_id, original.session_id));
    assert_eq!(actor_ids(&exchanged), [id(&account.id)]);
    assert!(exchanged.id != original.id && exchanged.roles.is_empty());
    assert!(original.authentication.is_some());
    assert_eq!(exchanged.authentication, original.authentication);
    let introspected = introspect(&server, &issued.access_token).await;
    assert!(introspected.active && introspected.act.expect("an actor").sub == account.id);
    assert_refused!(server.get_me(&issued.access_token).await, PermissionDenied, "SCOPE_MISSING");

    let all = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged");
    assert_eq!(all.scope.as_deref(), Some("tasks.read tasks.write"));
    let jwt = "urn:ietf:params:oauth:token-type:jwt".to_owned();
    let request = IssueTokenRequest {
        subject_token_type: jwt.clone(),
        requested_token_type: jwt,
        audience: "taskey".to_owned(),
        ..exchange_request(&account, &ann.access_token, "")
    };
    issue(&server, request).await.expect("exchanged");
    server.stop().await;
}

async fn the_token_has_the_time_at_which_the_user_proved_a_factor(database: TestDatabase) {
    let (server, ann, first, admin) = start(database).await;
    let second = created(&server, &admin, &FORWARDING).await;
    let login_time = server.clock.now().as_seconds();
    server.manual_clock.advance(Duration::from_secs(3600));
    let refreshed = server.refresh(&ann.refresh_token).await.expect("refreshed").access_token;
    let mut token = refreshed.clone();
    for service in [&first, &second] {
        token = exchange(&server, service, &token, "").await.expect("exchanged").access_token;
        let introspected = introspect(&server, &token).await;
        let time = introspected.auth_time.map(i64::from);
        assert_eq!((introspected.amr, time), (vec!["pwd".to_owned()], Some(login_time)));
    }
    let fresh = reauthenticate(&server, &refreshed, password(PASSWORD)).await.expect("authenticated");
    let token = exchange(&server, &first, &fresh.access_token, "").await.expect("exchanged").access_token;
    let time = claims(&server, &token).authentication.expect("a time").time.as_seconds();
    assert_eq!(time, login_time + 3600);
    server.stop().await;
}

async fn the_token_ends_with_the_session_of_the_user(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let issued = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged");
    server.logout(&ann.refresh_token).await.expect("logged out");
    assert!(!introspect(&server, &issued.access_token).await.active);
    let outcome = exchange(&server, &account, &ann.access_token, "").await;
    assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn the_token_expires_with_the_token_of_the_user(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    server.manual_clock.advance(Duration::from_secs(290));
    let issued = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged");
    assert!(issued.expires_in <= 10, "{}", issued.expires_in);
    let expiries = [&ann.access_token, &issued.access_token].map(|token| claims(&server, token).expires_at);
    assert_eq!(expiries[0], expiries[1]);
    server.manual_clock.advance(Duration::from_secs(11));
    // Verifiers tolerate clocks that differ by 5 s.
    server.get_me(&ann.access_token).await.expect("permitted");
    let outcome = exchange(&server, &account, &ann.access_token, "").await;
    assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn the_token_permits_no_more_than_the_service_and_the_user(database: TestDatabase) {
    let (server, ann, account, admin) = start(database).await;
    for scope in ["account.read", "admin.read", "clients.forward", "tokens.verify", "x", "tasks.read tasks.read"] {
        let outcome = exchange(&server, &account, &ann.access_token, scope).await;
        assert_error(outcome, "SCOPE_INVALID", "invalid_scope");
    }
    let reader = created(&server, &admin, &["tasks.read", "clients.forward"]).await;
    let outcome = exchange(&server, &reader, &ann.access_token, "tasks.write").await;
    assert_error(outcome, "SCOPE_INVALID", "invalid_scope");
    let issued = exchange(&server, &reader, &ann.access_token, "").await.expect("exchanged");
    assert_eq!(issued.scope.as_deref(), Some("tasks.read"));

    let narrow: Scopes = [Scope::TasksRead, Scope::AccountRead].into_iter().collect();
    let narrow = forge_with_scopes(&server, id(&user_id(&ann)), id(&ann.session_id), &[], Some(narrow));
    let issued = exchange(&server, &account, &narrow, "").await.expect("exchanged");
    assert_eq!(issued.scope.as_deref(), Some("tasks.read"));
    let outcome = exchange(&server, &account, &narrow, "tasks.read tasks.write").await;
    assert_error(outcome, "SCOPE_INVALID", "invalid_scope");
    let none: Scopes = [Scope::AccountRead].into_iter().collect();
    let none = forge_with_scopes(&server, id(&user_id(&ann)), id(&ann.session_id), &[], Some(none));
    assert_error(exchange(&server, &account, &none, "").await, "SCOPE_INVALID", "invalid_scope");
    server.stop().await;
}

async fn at_most_three_services_act_one_after_another_and_none_twice(database: TestDatabase) {
    let (server, ann, first, admin) = start(database).await;
    let mut token = ann.access_token;
    let mut services = vec![first];
    for _ in 0..3 {
        services.push(created(&server, &admin, &FORWARDING).await);
    }
    let mut actors: Vec<Uuid> = Vec::new();
    for service in &services[..3] {
        token = exchange(&server, service, &token, "").await.expect("exchanged").access_token;
        actors.insert(0, id(&service.id));
        assert_eq!(actor_ids(&claims(&server, &token)), actors);
        // A loop, also with another service account between the two.
        let outcome = exchange(&server, &services[0], &token, "").await;
        assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
    }
    assert_eq!(introspect(&server, &token).await.act.expect("an actor").sub, services[2].id);
    let outcome = exchange(&server, &services[3], &token, "").await;
    assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn only_valid_access_tokens_of_users_are_exchanged(database: TestDatabase) {
    let (server, ann, account, admin) = start(database).await;
    let personal = personal_access_tokens::created(&server, &ann.access_token, &["tasks.read"]).await;
    let of_service = client_token(&server, &account, "").await.expect("issued").access_token;
    let unknown_session = forge_with_scopes(&server, id(&user_id(&ann)), server.clock.new_id(), &[], None);
    let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in").session_id;
    let other_user = forge_with_scopes(&server, id(&account.id), id(&other_session), &[], None);
    let foreign = {
        let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
        token::sign(&keys, &token_args("other"), &claims(&server, &ann.access_token)).expect("signed")
    };
    let invalid = [
        "x".to_owned(),
        String::new(),
        ann.refresh_token.clone(),
        personal.secret,
        of_service,
        unknown_session,
        other_user,
        foreign,
        format!("{}x", ann.access_token),
    ];
    for token in &invalid {
        assert_error(exchange(&server, &account, token, "").await, "VALIDATION_FAILED", "invalid_request");
    }
    let request = exchange_request(&account, &ann.access_token, "");
    for invalid in [
        IssueTokenRequest { subject_token_type: String::new(), ..request.clone() },
        IssueTokenRequest { subject_token_type: "urn:ietf:params:oauth:token-type:id_token".into(), ..request.clone() },
        IssueTokenRequest {
            requested_token_type: "urn:ietf:params:oauth:token-type:refresh_token".into(),
            ..request.clone()
        },
        IssueTokenRequest { actor_token: admin.clone(), ..request.clone() },
    ] {
        assert_error(issue(&server, invalid).await, "VALIDATION_FAILED", "invalid_request");
    }
    let other_audience = IssueTokenRequest { audience: "other".to_owned(), ..request };
    assert_error(issue(&server, other_audience).await, "VALIDATION_FAILED", "invalid_target");
    server.manual_clock.advance(Duration::from_secs(306));
    let expired = exchange(&server, &account, &ann.access_token, "").await;
    assert_error(expired, "VALIDATION_FAILED", "invalid_request");
    server.stop().await;
}

async fn only_services_with_the_scope_exchange_tokens(database: TestDatabase) {
    let (server, ann, account, admin) = start(database).await;
    let without = created(&server, &admin, &["tasks.read", "tasks.write"]).await;
    let outcome = exchange(&server, &without, &ann.access_token, "").await;
    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
    let wrong = ServiceAccount { secret: without.secret, ..account };
    assert_error(exchange(&server, &wrong, &ann.access_token, "").await, "CLIENT_INVALID", "invalid_client");
    server.stop().await;
}

async fn a_token_of_an_exchange_cannot_be_revoked_by_the_service(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let issued = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged");
    for (client_id, client_secret) in [(account.id, account.secret), Default::default()] {
        let token = issued.access_token.clone();
        let request = RevokeTokenRequest { token, client_id, client_secret, ..Default::default() };
        let outcome = client(&server).revoke_token(request).await;
        assert_error(outcome, "VALIDATION_FAILED", "unsupported_token_type");
    }
    server.get_me(&ann.access_token).await.expect("the session is active");
    server.stop().await;
}

async fn a_token_of_an_exchange_does_not_log_the_user_out(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let issued = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    let logout = async |refresh_token: &str| {
        let request = LogoutRequest { refresh_token: refresh_token.to_owned(), ..LogoutRequest::default() };
        server.auth().logout(bearer(&issued, request)).await
    };
    assert_refused!(logout("").await, PermissionDenied, "PERMISSION_DENIED");
    logout("an unknown token").await.expect("an unknown refresh token is no error");
    server.get_me(&ann.access_token).await.expect("the session is active");
    server.manual_clock.advance(Duration::from_secs(306));
    assert_refused!(logout("").await, PermissionDenied, "PERMISSION_DENIED");
    let refreshed = server.refresh(&ann.refresh_token).await.expect("the session is active");
    logout(&refreshed.refresh_token).await.expect("the refresh token identifies the session");
    assert_refused!(server.refresh(&refreshed.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn exchanges_are_audited_once_per_hour(database: TestDatabase) {
    let (server, ann, account, admin) = start(database).await;
    for scope in ["tasks.read", "", "tasks.write"] {
        exchange(&server, &account, &ann.access_token, scope).await.expect("exchanged");
    }
    let events = events_of(&server, &admin, &user_id(&ann)).await;
    let exchanges: Vec<_> =
        events.iter().filter(|event| event.kind().as_str_name() == "KIND_TOKEN_EXCHANGED").collect();
    let [event] = &exchanges[..] else { panic!("{events:?}") };
    assert_eq!((&event.actor_id, &event.session_id), (&account.id, &ann.session_id));
    assert_eq!((&event.details["actors"], &event.details["scopes"][..]), (&account.id, "tasks.read"));
    server.stop().await;
}
