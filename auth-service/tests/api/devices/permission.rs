//! Who can permit a device, and when the permission ends before the device polls.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{AuthorizeDeviceResponse, DisableUserRequest, admin_service_client::AdminServiceClient};

use super::{approve, codes, deny, get, poll, request_codes};
use crate::{
    factors::reauthentication::{password, reauthenticate},
    forged_claims::sign_up_admin,
    mail::{NEW_PASSWORD, change_password},
    oauth::assert_error,
    personal_access_tokens,
    support::{PASSWORD, Server, bearer, user_id},
};

on_each_database! {
    a_personal_access_token_decides_about_no_device,
    a_session_that_is_limited_to_scopes_permits_no_device,
    permitting_a_device_needs_a_recent_proof,
    the_permission_ends_with_a_change_of_the_password,
    the_permission_ends_with_the_session_that_gave_it,
    the_permission_ends_with_the_account,
}

async fn a_personal_access_token_decides_about_no_device(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let device = codes(&server).await;
    let personal = personal_access_tokens::created(&server, &ann, &["account.read", "account.write"]).await.secret;
    for outcome in [
        get(&server, &personal, &device.user_code).await,
        approve(&server, &personal, &device.user_code).await,
        deny(&server, &personal, &device.user_code).await,
    ] {
        assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    }
    server.stop().await;
}

async fn a_session_that_is_limited_to_scopes_permits_no_device(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let limited = request_codes(&server, super::CLIENT, "account.write").await.expect("codes");
    approve(&server, &ann, &limited.user_code).await.expect("approved");
    let limited = poll(&server, &limited).await.expect("issued").access_token;
    let device = codes(&server).await;
    let outcome = approve(&server, &limited, &device.user_code).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    deny(&server, &limited, &device.user_code).await.expect("refusing gives no access");
    server.stop().await;
}

async fn permitting_a_device_needs_a_recent_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.manual_clock.advance(Duration::from_secs(601));
    let ann = server.refresh(&pair.refresh_token).await.expect("refreshed").access_token;
    let device = codes(&server).await;
    get(&server, &ann, &device.user_code).await.expect("seeing the device needs no proof");
    assert_refused!(approve(&server, &ann, &device.user_code).await, PermissionDenied, "STEP_UP_REQUIRED");
    reauthenticate(&server, &ann, password(PASSWORD)).await.expect("proved");
    approve(&server, &ann, &device.user_code).await.expect("approved");
    poll(&server, &device).await.expect("issued");
    server.stop().await;
}

/// Asserts that a device that was permitted gets no session any more.
async fn assert_ended(server: &Server, device: &AuthorizeDeviceResponse) {
    assert_error(poll(server, device).await, "GRANT_INVALID", "invalid_grant");
}

async fn the_permission_ends_with_a_change_of_the_password(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let device = codes(&server).await;
    approve(&server, &pair.access_token, &device.user_code).await.expect("approved");
    // The session that changes the password continues.
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    assert_ended(&server, &device).await;
    server.stop().await;
}

async fn the_permission_ends_with_the_session_that_gave_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let device = codes(&server).await;
    approve(&server, &pair.access_token, &device.user_code).await.expect("approved");
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert_ended(&server, &device).await;
    server.stop().await;
}

async fn the_permission_ends_with_the_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let (ann, bob) =
        (server.sign_up_and_login("ann@example.com").await, server.sign_up_and_login("bob@example.com").await);
    let (of_ann, of_bob) = (codes(&server).await, codes(&server).await);
    approve(&server, &ann.access_token, &of_ann.user_code).await.expect("approved");
    approve(&server, &bob.access_token, &of_bob.user_code).await.expect("approved");
    let request = bearer(&admin, DisableUserRequest { user_id: user_id(&ann) });
    AdminServiceClient::new(server.channel.clone()).disable_user(request).await.expect("disabled");
    server.delete_me(&bob.access_token, PASSWORD).await.expect("deleted");
    assert_ended(&server, &of_ann).await;
    assert_ended(&server, &of_bob).await;
    server.stop().await;
}
