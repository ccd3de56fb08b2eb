//! Personal access tokens: what they permit, what ends them, and who can exchange them. The limits have tests of their own.

use std::time::Duration;

use service_kit::{
    assert_refused,
    auth::personal_access_token::PersonalAccessToken as Secret,
    on_each_database,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::auth::v1::{
    ChangeEmailRequest, ChangePasswordRequest, CreatePersonalAccessTokenRequest, DeletePersonalAccessTokenRequest,
    ExchangePersonalAccessTokenRequest, GetPersonalAccessTokenRequest, ListMySecurityEventsRequest,
    ListPersonalAccessTokensRequest, ListSessionsRequest, PersonalAccessToken, RotatePersonalAccessTokenRequest,
    UpdateMeRequest, User, personal_access_token_service_client::PersonalAccessTokenServiceClient,
};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use crate::support::{PASSWORD, Server, bearer, query_string, verifier_request};

on_each_database! {
    a_token_permits_its_scopes_and_is_listed_without_its_secret,
    a_token_cannot_create_tokens_or_change_credentials,
    a_deleted_token_is_refused,
    a_rotated_token_is_refused_and_its_successor_is_accepted,
    a_token_works_for_a_year_without_a_login,
    tokens_end_with_the_other_sessions_and_with_the_account,
    tokens_of_other_accounts_do_not_exist,
    a_verifier_exchanges_a_token_for_its_claims,
    changes_are_security_events,
}

pub const DAY: Duration = Duration::from_secs(86_400);

pub fn client(server: &Server) -> PersonalAccessTokenServiceClient<Channel> {
    PersonalAccessTokenServiceClient::new(server.channel.clone())
}

pub fn with_scopes(scopes: &[&str]) -> CreatePersonalAccessTokenRequest {
    CreatePersonalAccessTokenRequest {
        label: "backup script".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    }
}

pub async fn create(
    server: &Server,
    access_token: &str,
    request: CreatePersonalAccessTokenRequest,
) -> Result<PersonalAccessToken, Status> {
    client(server).create_personal_access_token(bearer(access_token, request)).await.map(tonic::Response::into_inner)
}

/// Creates a token with these scopes.
pub async fn created(server: &Server, access_token: &str, scopes: &[&str]) -> PersonalAccessToken {
    create(server, access_token, with_scopes(scopes)).await.expect("created")
}

pub async fn list(server: &Server, access_token: &str) -> Vec<PersonalAccessToken> {
    let request = bearer(access_token, ListPersonalAccessTokensRequest {});
    let listed = client(server).list_personal_access_tokens(request).await.expect("listed");
    listed.into_inner().personal_access_tokens
}

pub async fn delete(server: &Server, access_token: &str, id: &str) -> Result<(), Status> {
    let request = bearer(access_token, DeletePersonalAccessTokenRequest { id: id.to_owned() });
    client(server).delete_personal_access_token(request).await.map(drop)
}

/// Waits until calls with a token succeed.
pub async fn await_acceptance(server: &Server, token: &str) -> User {
    let accepted = async {
        loop {
            if let Ok(user) = server.get_me(token).await {
                return user;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), accepted).await.expect("accepted")
}

async fn a_token_permits_its_scopes_and_is_listed_without_its_secret(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read", "tasks.read"]).await;
    assert_eq!(token.scopes, ["tasks.read", "account.read"]);
    assert_eq!(server.get_me(&token.secret).await.expect("permitted").email, "ann@example.com");
    let update = bearer(&token.secret, UpdateMeRequest::default());
    assert_refused!(server.account().update_me(update).await, PermissionDenied, "SCOPE_MISSING");
    let sessions = server.account().list_sessions(bearer(&token.secret, ListSessionsRequest {})).await;
    assert_eq!(sessions.expect("permitted").into_inner().sessions.len(), 1, "only the login");

    let listed = list(&server, &access).await;
    let expected = PersonalAccessToken { secret: String::new(), ..token.clone() };
    let [found] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((found.last_use_address.as_str(), found.last_use_date.len()), ("127.0.0.1", 10));
    let (last_use_address, last_use_date) = (String::new(), String::new());
    assert_eq!(PersonalAccessToken { last_use_address, last_use_date, ..found.clone() }, expected);
    let got = client(&server)
        .get_personal_access_token(bearer(&access, GetPersonalAccessTokenRequest { id: token.id.clone() }))
        .await;
    assert_eq!(got.expect("found").into_inner(), *found);
    let stored = query_string(&server.database, "select hash from personal_access_tokens").await;
    assert!(!token.secret.contains(&stored) && stored.len() == 43);
    server.stop().await;
}

async fn a_token_cannot_create_tokens_or_change_credentials(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read", "account.write"]).await;
    for rpc in ["Create", "Get", "Update", "Rotate", "Delete"] {
        let path = format!("/taskey.auth.v1.PersonalAccessTokenService/{rpc}PersonalAccessToken");
        let outcome = call_raw(&server.channel, &path, bearer(&token.secret, Vec::new())).await;
        assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    }
    let request = bearer(&token.secret, ListPersonalAccessTokensRequest {});
    let outcome = client(&server).list_personal_access_tokens(request).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    let change =
        ChangePasswordRequest { current_password: PASSWORD.into(), new_password: "another long password".into() };
    let outcome = server.account().change_password(bearer(&token.secret, change)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    let change = ChangeEmailRequest { new_email: "bob@example.com".into(), current_password: PASSWORD.into() };
    let outcome = server.account().change_email(bearer(&token.secret, change)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    server.login("ann@example.com", PASSWORD).await.expect("address and password are unchanged");
    server.stop().await;
}

async fn a_deleted_token_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    server.get_me(&token.secret).await.expect("permitted");
    delete(&server, &access, &token.id).await.expect("deleted");
    assert_eq!(server.get_me(&token.secret).await.expect_err("refused").code(), Code::Unauthenticated);
    assert!(list(&server, &access).await.is_empty());
    assert_refused!(delete(&server, &access, &token.id).await, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    server.get_me(&access).await.expect("the login is not affected");
    server.stop().await;
}

async fn a_rotated_token_is_refused_and_its_successor_is_accepted(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    server.get_me(&token.secret).await.expect("permitted");
    let rotate = bearer(&access, RotatePersonalAccessTokenRequest { id: token.id.clone() });
    let rotated = client(&server).rotate_personal_access_token(rotate).await.expect("rotated").into_inner();
    assert_eq!((&rotated.id, &rotated.label, &rotated.scopes), (&token.id, &token.label, &token.scopes));
    assert_ne!(rotated.secret, token.secret);
    assert_eq!(server.get_me(&token.secret).await.expect_err("refused").code(), Code::Unauthenticated);
    server.get_me(&rotated.secret).await.expect("permitted");
    assert_eq!(list(&server, &access).await.len(), 1);
    server.stop().await;
}

async fn a_token_works_for_a_year_without_a_login(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    for _ in 0..4 {
        server.manual_clock.advance(91 * DAY);
        await_acceptance(&server, &token.secret).await;
    }
    assert_refused!(server.get_me(&access).await, Unauthenticated, "TOKEN_EXPIRED");
    server.manual_clock.advance(DAY);
    let status = server.await_refusal(&token.secret).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    server.stop().await;
}

async fn tokens_end_with_the_other_sessions_and_with_the_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    let new_password = "another long password";
    let change = ChangePasswordRequest { current_password: PASSWORD.into(), new_password: new_password.into() };
    server.account().change_password(bearer(&access, change)).await.expect("changed");
    assert_eq!(server.get_me(&token.secret).await.expect_err("refused").code(), Code::Unauthenticated);
    assert!(list(&server, &access).await.is_empty());

    let token = created(&server, &access, &["account.read"]).await;
    server.get_me(&token.secret).await.expect("permitted");
    server.delete_me(&access, new_password).await.expect("deleted");
    assert_eq!(server.get_me(&token.secret).await.expect_err("refused").code(), Code::Unauthenticated);
    let count = "select cast(count(*) as text) from personal_access_tokens";
    assert_eq!(query_string(&server.database, count).await, "0");
    server.stop().await;
}

async fn tokens_of_other_accounts_do_not_exist(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let bob = server.sign_up_and_login("bob@example.com").await.access_token;
    let token = created(&server, &ann, &["account.read"]).await;
    assert!(list(&server, &bob).await.is_empty());
    let get = bearer(&bob, GetPersonalAccessTokenRequest { id: token.id.clone() });
    let outcome = client(&server).get_personal_access_token(get).await;
    assert_refused!(outcome, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    let rotate = bearer(&bob, RotatePersonalAccessTokenRequest { id: token.id.clone() });
    let outcome = client(&server).rotate_personal_access_token(rotate).await;
    assert_refused!(outcome, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    assert_refused!(delete(&server, &bob, &token.id).await, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    server.get_me(&token.secret).await.expect("unchanged");
    server.stop().await;
}

async fn a_verifier_exchanges_a_token_for_its_claims(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let token = created(&server, &pair.access_token, &["tasks.write", "tasks.read"]).await;
    let exchange = async |token: &str, client_address: &str| {
        let request = ExchangePersonalAccessTokenRequest { token: token.into(), client_address: client_address.into() };
        let request = verifier_request(&server, request).await;
        server.token().exchange_personal_access_token(request).await.map(tonic::Response::into_inner)
    };
    let claims = exchange(&token.secret, "2001:db8::7").await.expect("exchanged");
    assert_eq!(claims.sub, pair.user.expect("set").id);
    assert_eq!((claims.jti, claims.scope.as_str()), (token.id.clone(), "tasks.read tasks.write"));
    assert!(claims.roles.is_empty() && claims.networks.is_empty() && claims.sid != pair.session_id);
    assert_eq!(claims.expire_time.expect("set").seconds, server.clock.now().as_seconds() + 300);
    assert_eq!(claims.token_expire_time, token.expire_time);
    assert_eq!(list(&server, &pair.access_token).await[0].last_use_address, "2001:db8::7");

    let (unknown, _) = Secret::generate(token.id.parse().expect("a UUID"));
    let outcome = exchange(&unknown, "").await;
    assert_refused!(outcome, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    assert_refused!(exchange(&pair.access_token, "").await, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    assert_refused!(exchange("", "").await, InvalidArgument, "VALIDATION_FAILED", "token");
    assert_refused!(exchange(&token.secret, "x").await, InvalidArgument, "VALIDATION_FAILED", "client_address");
    let request = ExchangePersonalAccessTokenRequest { token: token.secret.clone(), ..Default::default() };
    let outcome = server.token().exchange_personal_access_token(bearer(&token.secret, request)).await;
    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
    server.stop().await;
}

async fn changes_are_security_events(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    delete(&server, &access, &token.id).await.expect("deleted");
    let request = bearer(&access, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let found: Vec<_> = events[..2].iter().map(|event| (event.kind().as_str_name(), &event.details)).collect();
    assert_eq!(found[0].0, "KIND_PERSONAL_ACCESS_TOKEN_DELETED");
    assert_eq!(found[1].0, "KIND_PERSONAL_ACCESS_TOKEN_CREATED");
    assert_eq!(found[1].1["scopes"], "account.read");
    assert!(found.iter().all(|(_, details)| details["token_id"] == token.id));
    server.stop().await;
}
