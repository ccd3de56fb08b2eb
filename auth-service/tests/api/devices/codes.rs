//! The codes of devices: what they are valid for, and where they are stored.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuthorizeDeviceRequest, AuthorizeDeviceResponse, IssueTokenRequest, IssueTokenResponse,
    o_auth_service_client::OAuthServiceClient,
};

use super::{CLIENT, approve, codes, poll, poll_now, poll_request, request_codes};
use crate::{
    factors::single_use::{assert_one_succeeds, start, stop},
    mail::await_value,
    oauth::{assert_error, client, issue},
    support::{PASSWORD, Server, execute, query_string},
};

on_each_database! {
    a_device_code_is_good_for_one_session,
    codes_expire,
    a_device_code_belongs_to_its_client,
    requests_with_invalid_parameters_are_refused,
    device_codes_are_not_stored,
    the_page_is_that_of_the_public_url,
    expired_requests_are_removed,
}

async fn a_device_code_is_good_for_one_session(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    approve(&server, &ann, &device.user_code).await.expect("approved");
    let clients = [server.channel.clone(), replica.channel.clone()].map(OAuthServiceClient::new);
    assert_one_succeeds::<tonic::Response<IssueTokenResponse>, _>(&["GRANT_INVALID"], |index| {
        let (mut client, request) = (clients[index % 2].clone(), poll_request(&device.device_code));
        async move { client.issue_token(request).await }
    })
    .await;
    assert_eq!(super::sessions(&server, &ann).await.len(), 2);
    stop(server, replica).await;
}

async fn codes_expire(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let (pending, approved) = (codes(&server).await, codes(&server).await);
    server.manual_clock.advance(Duration::from_secs(599));
    let ann = server.login("ann@example.com", PASSWORD).await.expect("logged in").access_token;
    approve(&server, &ann, &approved.user_code).await.expect("approved");
    server.manual_clock.advance(Duration::from_secs(1));
    assert_refused!(super::get(&server, &ann, &pending.user_code).await, NotFound, "USER_CODE_INVALID");
    assert_refused!(approve(&server, &ann, &pending.user_code).await, NotFound, "USER_CODE_INVALID");
    for device in [pending, approved] {
        assert_error(poll_now(&server, &device).await, "DEVICE_CODE_EXPIRED", "expired_token");
    }
    server.stop().await;
}

async fn a_device_code_belongs_to_its_client(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    approve(&server, &ann, &device.user_code).await.expect("approved");
    let other = IssueTokenRequest { client_id: "other".to_owned(), ..poll_request(&device.device_code) };
    assert_error(issue(&server, other).await, "GRANT_INVALID", "invalid_grant");
    let unknown = AuthorizeDeviceResponse { device_code: device.device_code.to_uppercase(), ..device.clone() };
    assert_error(poll(&server, &unknown).await, "GRANT_INVALID", "invalid_grant");
    poll(&server, &device).await.expect("issued");
    server.stop().await;
}

async fn requests_with_invalid_parameters_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    for client_id in [String::new(), "x".repeat(101), "télé".to_owned(), "a\nb".to_owned()] {
        let outcome = request_codes(&server, &client_id, "").await;
        assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
        let request = IssueTokenRequest { client_id, ..poll_request("x") };
        assert_error(issue(&server, request).await, "VALIDATION_FAILED", "invalid_request");
    }
    for scope in ["tokens.verify", "clients.forward", "tasks.read tasks.read", "x", "tasks.read  tasks.write", " "] {
        assert_error(request_codes(&server, CLIENT, scope).await, "SCOPE_INVALID", "invalid_scope");
    }
    for device_code in [String::new(), "x".repeat(4097)] {
        let outcome = issue(&server, poll_request(&device_code)).await;
        assert_error(outcome, "VALIDATION_FAILED", "invalid_request");
    }
    request_codes(&server, &"x".repeat(100), "admin.write").await.expect("codes");
    server.stop().await;
}

async fn device_codes_are_not_stored(database: TestDatabase) {
    let server = Server::start(database).await;
    let device = codes(&server).await;
    let row = "select user_code || client_id || user_agent || state from device_authorizations";
    let row = query_string(&server.database, row).await;
    assert!(row.contains(&device.user_code.replace('-', "")), "{row}");
    assert!(!row.contains(&device.device_code), "{row}");
    server.stop().await;
}

async fn the_page_is_that_of_the_public_url(database: TestDatabase) {
    let server = Server::start_with(database, &["--public-url", "https://example.org/tasks/"]).await;
    let request = AuthorizeDeviceRequest { client_id: CLIENT.to_owned(), scope: String::new() };
    let device = client(&server).authorize_device(request).await.expect("codes").into_inner();
    assert_eq!(device.verification_uri, "https://example.org/tasks/device");
    let complete = format!("https://example.org/tasks/device#{}", device.user_code);
    assert_eq!(device.verification_uri_complete, complete);
    server.stop().await;
}

async fn expired_requests_are_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    let (expired, waiting) = (codes(&server).await, codes(&server).await);
    let database = server.stop().await;
    let code = expired.user_code.replace('-', "");
    execute(&database, format!("update device_authorizations set expires_at = 1 where user_code = '{code}'")).await;
    let server = Server::start(database).await;
    let code = waiting.user_code.replace('-', "");
    // Requests are purged when the server starts.
    await_value(&server.database, "select min(user_code) || count(*) from device_authorizations", &format!("{code}1"))
        .await;
    server.stop().await;
}
