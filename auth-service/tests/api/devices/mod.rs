//! The device authorization grant (RFC 8628): a user permits a device to start a session.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    ApproveDeviceAuthorizationRequest, AuthorizeDeviceRequest, AuthorizeDeviceResponse, DenyDeviceAuthorizationRequest,
    DeviceAuthorization, GetDeviceAuthorizationRequest, IssueTokenRequest, IssueTokenResponse,
    ListMySecurityEventsRequest, ListSessionsRequest, RevokeSessionRequest, Session,
    device_authorization_service_client::DeviceAuthorizationServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    oauth::{assert_error, client, introspect, issue},
    support::{Server, bearer, query_string, user_id},
};

mod codes;
mod credentials;
mod limits;
mod model;
mod permission;
mod scopes;

on_each_database! {
    a_device_gets_a_session_after_a_user_has_agreed,
    a_device_that_was_refused_gets_no_session,
    a_device_that_polls_too_often_has_to_slow_down,
    the_session_of_a_device_is_listed_and_revoked_like_any_other,
    the_session_of_a_device_has_the_authentication_of_the_session_that_permitted_it,
    decisions_are_security_events,
}

const CLIENT: &str = "taskey token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Asks for codes, with these scopes.
async fn request_codes(server: &Server, client_id: &str, scope: &str) -> Result<AuthorizeDeviceResponse, Status> {
    let request = AuthorizeDeviceRequest { client_id: client_id.to_owned(), scope: scope.to_owned() };
    client(server).authorize_device(request).await.map(tonic::Response::into_inner)
}

async fn codes(server: &Server) -> AuthorizeDeviceResponse {
    request_codes(server, CLIENT, "").await.expect("codes")
}

fn decisions(server: &Server) -> DeviceAuthorizationServiceClient<Channel> {
    DeviceAuthorizationServiceClient::new(server.channel.clone())
}

async fn get(server: &Server, access_token: &str, user_code: &str) -> Result<DeviceAuthorization, Status> {
    let request = bearer(access_token, GetDeviceAuthorizationRequest { user_code: user_code.to_owned() });
    decisions(server).get_device_authorization(request).await.map(tonic::Response::into_inner)
}

async fn approve(server: &Server, access_token: &str, user_code: &str) -> Result<DeviceAuthorization, Status> {
    let request = bearer(access_token, ApproveDeviceAuthorizationRequest { user_code: user_code.to_owned() });
    decisions(server).approve_device_authorization(request).await.map(tonic::Response::into_inner)
}

async fn deny(server: &Server, access_token: &str, user_code: &str) -> Result<DeviceAuthorization, Status> {
    let request = bearer(access_token, DenyDeviceAuthorizationRequest { user_code: user_code.to_owned() });
    decisions(server).deny_device_authorization(request).await.map(tonic::Response::into_inner)
}

fn poll_request(device_code: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        grant_type: GRANT.to_owned(),
        device_code: device_code.to_owned(),
        client_id: CLIENT.to_owned(),
        ..Default::default()
    }
}

async fn poll_now(server: &Server, device: &AuthorizeDeviceResponse) -> Result<IssueTokenResponse, Status> {
    issue(server, poll_request(&device.device_code)).await
}

/// Polls, five seconds after the previous time.
async fn poll(server: &Server, device: &AuthorizeDeviceResponse) -> Result<IssueTokenResponse, Status> {
    server.manual_clock.advance(Duration::from_secs(5));
    poll_now(server, device).await
}

async fn sessions(server: &Server, access_token: &str) -> Vec<Session> {
    let listed = server.account().list_sessions(bearer(access_token, ListSessionsRequest {})).await;
    listed.expect("listed").into_inner().sessions
}

async fn a_device_gets_a_session_after_a_user_has_agreed(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    assert_eq!((device.expires_in, device.interval, &device.verification_uri[..]), (600, 5, "/device"));
    assert_eq!(device.verification_uri_complete, format!("/device#{}", device.user_code));
    assert_error(poll(&server, &device).await, "AUTHORIZATION_PENDING", "authorization_pending");

    let typed = device.user_code.to_lowercase().replace('-', " ");
    let shown = get(&server, &ann, &typed).await.expect("found");
    assert_eq!((&shown.user_code, &shown.client_id[..]), (&device.user_code, CLIENT));
    assert_eq!((&shown.ip_address[..], shown.scopes.len()), ("127.0.0.1", 0));
    assert!(shown.user_agent.contains("tonic"), "{}", shown.user_agent);
    assert_error(poll(&server, &device).await, "AUTHORIZATION_PENDING", "authorization_pending");
    assert_eq!(approve(&server, &ann, &typed).await.expect("approved"), shown);

    let issued = poll_now(&server, &device).await.expect("issued");
    assert_eq!((&issued.token_type[..], &issued.scope), ("Bearer", &None));
    // The time of expiry has whole seconds.
    assert!([299, 300].contains(&issued.expires_in), "{}", issued.expires_in);
    assert_eq!(server.get_me(&issued.access_token).await.expect("permitted").email, "ann@example.com");
    let refreshed = server.refresh(&issued.refresh_token.expect("a refresh token")).await.expect("refreshed");
    assert_eq!(server.get_me(&refreshed.access_token).await.expect("permitted").email, "ann@example.com");
    assert_error(poll(&server, &device).await, "GRANT_INVALID", "invalid_grant");
    assert_refused!(approve(&server, &ann, &device.user_code).await, NotFound, "USER_CODE_INVALID");
    server.stop().await;
}

async fn a_device_that_was_refused_gets_no_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    assert_eq!(deny(&server, &ann, &device.user_code).await.expect("refused").user_code, device.user_code);
    for _ in 0..2 {
        let status = poll_now(&server, &device).await.expect_err("refused");
        assert_eq!(refusal(&status).0, tonic::Code::PermissionDenied);
        assert_error(Err::<(), _>(status), "AUTHORIZATION_DENIED", "access_denied");
    }
    for outcome in [get(&server, &ann, &device.user_code).await, approve(&server, &ann, &device.user_code).await] {
        assert_refused!(outcome, NotFound, "USER_CODE_INVALID");
    }
    server.stop().await;
}

async fn a_device_that_polls_too_often_has_to_slow_down(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    assert_error(poll_now(&server, &device).await, "AUTHORIZATION_PENDING", "authorization_pending");
    assert_error(poll_now(&server, &device).await, "RATE_LIMITED", "slow_down");
    // Five seconds are no longer enough, nor are ten after that.
    assert_error(poll(&server, &device).await, "RATE_LIMITED", "slow_down");
    server.manual_clock.advance(Duration::from_secs(10));
    assert_error(poll(&server, &device).await, "AUTHORIZATION_PENDING", "authorization_pending");
    approve(&server, &ann, &device.user_code).await.expect("approved");
    poll_now(&server, &device).await.expect("the decision is not delayed");
    server.stop().await;
}

async fn the_session_of_a_device_is_listed_and_revoked_like_any_other(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    approve(&server, &ann, &device.user_code).await.expect("approved");
    let issued = poll(&server, &device).await.expect("issued");
    let listed = sessions(&server, &ann).await;
    let [session, own] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&session.label[..], session.current, own.current), (CLIENT, false, true));
    let request = bearer(&ann, RevokeSessionRequest { session_id: session.id.clone() });
    server.account().revoke_session(request).await.expect("revoked");
    assert_refused!(Err::<(), _>(server.await_refusal(&issued.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    let refresh_token = issued.refresh_token.expect("a refresh token");
    assert_refused!(server.refresh(&refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn the_session_of_a_device_has_the_authentication_of_the_session_that_permitted_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let login = introspect(&server, &pair.access_token).await;
    let device = codes(&server).await;
    server.manual_clock.advance(Duration::from_secs(100));
    approve(&server, &pair.access_token, &device.user_code).await.expect("approved");
    let issued = poll(&server, &device).await.expect("issued");
    let claims = introspect(&server, &issued.access_token).await;
    assert_eq!((claims.amr, claims.auth_time), (vec!["pwd".to_owned()], login.auth_time));
    assert!(login.auth_time.is_some() && claims.sid != login.sid, "it is another session");
    assert_eq!(claims.sub, Some(user_id(&pair)));
    server.stop().await;
}

async fn decisions_are_security_events(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let refused = codes(&server).await;
    deny(&server, &ann, &refused.user_code).await.expect("refused");
    let device = request_codes(&server, CLIENT, "tasks.read account.read").await.expect("codes");
    approve(&server, &ann, &device.user_code).await.expect("approved");
    poll(&server, &device).await.expect("issued");
    let request = bearer(&ann, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let kinds: Vec<_> = events.iter().take(3).map(|event| event.kind().as_str_name()).collect();
    assert_eq!(kinds, ["KIND_LOGIN", "KIND_DEVICE_APPROVED", "KIND_DEVICE_DENIED"]);
    for event in &events[..3] {
        assert_eq!(event.details["client_id"], CLIENT, "{event:?}");
    }
    let details = &events[1].details;
    assert_eq!((&details["scopes"][..], &details["device_address"][..]), ("tasks.read account.read", "127.0.0.1"));
    assert!(!events[2].details.contains_key("scopes"));
    let count = "select cast(count(*) as text) from device_authorizations";
    assert_eq!(query_string(&server.database, count).await, "1", "a request is deleted when it is fulfilled");
    server.stop().await;
}
