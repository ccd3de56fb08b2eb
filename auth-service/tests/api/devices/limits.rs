//! The limits of codes, polls and waiting devices.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};

use super::{approve, codes, get, poll, poll_now, request_codes};
use crate::{
    oauth::assert_error,
    support::{Server, execute},
};

on_each_database! {
    guesses_of_user_codes_are_limited_for_each_account,
    guesses_of_user_codes_are_limited_for_each_address,
    requests_for_codes_are_limited_for_each_address,
    polls_are_limited_for_each_address,
    at_most_10000_devices_wait,
}

const HIGH: &str = "1000+1000/s";
/// A code that no device has: vowels are in none.
const WRONG: &str = "AAAA-AAAA";

async fn guesses_of_user_codes_are_limited_for_each_account(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--login-rate", HIGH]).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let bob = server.sign_up_and_login("bob@example.com").await.access_token;
    let device = codes(&server).await;
    for _ in 0..5 {
        assert_refused!(get(&server, &ann, WRONG).await, NotFound, "USER_CODE_INVALID");
        assert_refused!(approve(&server, &ann, WRONG).await, NotFound, "USER_CODE_INVALID");
    }
    assert_refused!(get(&server, &ann, &device.user_code).await, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(approve(&server, &ann, &device.user_code).await, ResourceExhausted, "RATE_LIMITED");
    get(&server, &bob, &device.user_code).await.expect("another account");
    server.manual_clock.advance(Duration::from_secs(6));
    approve(&server, &ann, &device.user_code).await.expect("one of ten per minute");
    server.stop().await;
}

async fn guesses_of_user_codes_are_limited_for_each_address(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--login-rate", "4+1/m"]).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let bob = server.sign_up_and_login("bob@example.com").await.access_token;
    for user in [&ann, &bob] {
        assert_refused!(get(&server, user, WRONG).await, NotFound, "USER_CODE_INVALID");
    }
    assert_refused!(get(&server, &ann, WRONG).await, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(approve(&server, &bob, WRONG).await, ResourceExhausted, "RATE_LIMITED");
    server.stop().await;
}

async fn requests_for_codes_are_limited_for_each_address(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--login-rate", "2+1/m"]).await;
    for _ in 0..2 {
        codes(&server).await;
    }
    assert_refused!(request_codes(&server, super::CLIENT, "").await, ResourceExhausted, "RATE_LIMITED");
    server.stop().await;
}

async fn polls_are_limited_for_each_address(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--refresh-rate", "2+1/m"]).await;
    let device = codes(&server).await;
    for _ in 0..2 {
        assert_error(poll(&server, &device).await, "AUTHORIZATION_PENDING", "authorization_pending");
    }
    assert_error(poll(&server, &device).await, "RATE_LIMITED", "slow_down");
    let unknown = taskey_proto::auth::v1::AuthorizeDeviceResponse { device_code: "x".to_owned(), ..device };
    assert_error(poll_now(&server, &unknown).await, "RATE_LIMITED", "slow_down");
    server.stop().await;
}

async fn at_most_10000_devices_wait(database: TestDatabase) {
    const FILL: &str = "
        with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 10000)
        insert into device_authorizations (id, user_code, client_id, user_agent, ip_address, state, interval_seconds,
            created_at, expires_at)
        select ";
    let server = Server::start(database).await;
    let expires_at = (server.clock.now() + Duration::from_secs(60)).as_micros();
    let is_sqlite = server.database.url().starts_with("sqlite:");
    let id = if is_sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
    let rest = format!("{id}, cast(n as text), 'x', '', '', 'pending', 5, 0, {expires_at} from numbers");
    execute(&server.database, format!("{FILL}{rest}")).await;
    assert_refused!(request_codes(&server, super::CLIENT, "").await, ResourceExhausted, "OVERLOADED");
    server.manual_clock.advance(Duration::from_secs(60));
    codes(&server).await;
    server.stop().await;
}
