//! How and when the user of a session has proved their identity: the claims `amr` and `auth_time`.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{IntrospectRequest, IntrospectResponse};

use crate::support::{Server, bearer, execute, issue_service_token};

on_each_database! {
    a_refresh_keeps_the_time_of_the_login,
    sessions_without_a_time_of_authentication_have_that_of_their_login,
    introspection_returns_how_the_user_has_authenticated,
}

/// Returns the claims of an access token.
pub fn claims(access_token: &str) -> Value {
    let payload = access_token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

async fn a_refresh_keeps_the_time_of_the_login(database: TestDatabase) {
    let server = Server::start(database).await;
    let login_time = server.clock.now().as_seconds();
    let pair = server.sign_up_and_login("ann@example.com").await;
    let first = claims(&pair.access_token);
    assert_eq!((&first["amr"], &first["auth_time"]), (&json!(["pwd"]), &json!(login_time)));
    server.manual_clock.advance(Duration::from_secs(3600));
    let refreshed = claims(&server.refresh(&pair.refresh_token).await.expect("refreshed").access_token);
    assert_eq!((&refreshed["amr"], &refreshed["auth_time"]), (&first["amr"], &first["auth_time"]));
    assert_eq!(refreshed["iat"], json!(login_time + 3600));
    server.stop().await;
}

async fn sessions_without_a_time_of_authentication_have_that_of_their_login(database: TestDatabase) {
    let server = Server::start(database).await;
    let login_time = server.clock.now().as_seconds();
    let pair = server.sign_up_and_login("ann@example.com").await;
    // As a program has stored it that does not know the column.
    execute(&server.database, "update sessions set authenticated_at = null").await;
    server.manual_clock.advance(Duration::from_secs(60));
    let refreshed = claims(&server.refresh(&pair.refresh_token).await.expect("refreshed").access_token);
    assert_eq!((&refreshed["amr"], &refreshed["auth_time"]), (&json!(["pwd"]), &json!(login_time)));
    server.stop().await;
}

async fn introspection_returns_how_the_user_has_authenticated(database: TestDatabase) {
    let server = Server::start(database).await;
    let login_time = u32::try_from(server.clock.now().as_seconds()).expect("before 2106");
    let token = server.sign_up_and_login("ann@example.com").await.access_token;
    let credential = issue_service_token(&server.database, "billing");
    let request = bearer(&credential, IntrospectRequest { token, ..Default::default() });
    let IntrospectResponse { active, amr, auth_time, .. } =
        server.token().introspect(request).await.expect("introspected").into_inner();
    assert_eq!((active, amr, auth_time), (true, vec!["pwd".to_owned()], Some(login_time)));
    server.stop().await;
}
