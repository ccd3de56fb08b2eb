//! Login throttling: guessing passwords is slow, and the owner is not locked out.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase, testing::refusal};
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{self, PASSWORD, Server, bearer};

on_each_database! {
    failed_logins_delay_the_next_attempt,
    unknown_email_addresses_are_throttled_like_existing_accounts,
    few_of_many_concurrent_guesses_are_tried_and_existing_sessions_keep_working,
    a_hundred_failed_logins_block_the_account_until_the_next_day,
    replicas_share_the_count_of_failed_logins,
    password_changes_with_a_wrong_password_are_throttled_like_logins,
    throttling_can_be_switched_off,
}

/// All guesses come from one address. Its own limit is raised so that it does not interfere.
const FLAGS: [&str; 6] = ["--login-rate", "1000000+1/s", "--password-memory-kib", "8", "--password-passes", "1"];

async fn start(database: TestDatabase) -> Server {
    Server::start_with(database, &FLAGS).await
}

/// Logs in, and returns the error reason and the retry delay in seconds.
async fn try_login(server: &Server, email: &str, password: &str) -> (String, u64) {
    match server.login(email, password).await {
        Ok(_) => ("OK".to_owned(), 0),
        Err(status) => reason_and_delay(&status),
    }
}

fn reason_and_delay(status: &Status) -> (String, u64) {
    let (code, reason, _) = refusal(status);
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).map_or(0, |delay| delay.as_secs());
    assert_eq!(code == Code::ResourceExhausted, reason == "RATE_LIMITED", "{status:?}");
    (reason, delay)
}

fn invalid_credentials() -> (String, u64) {
    ("CREDENTIALS_INVALID".to_owned(), 0)
}

fn rate_limited(seconds: u64) -> (String, u64) {
    ("RATE_LIMITED".to_owned(), seconds)
}

async fn failed_logins_delay_the_next_attempt(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for (failures, seconds) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        assert_eq!(try_login(&server, "ann@example.com", "a wrong one").await, invalid_credentials(), "{failures}");
        assert_eq!(try_login(&server, "Ann@Example.com", PASSWORD).await, rate_limited(seconds), "{failures}");
        server.manual_clock.advance(Duration::from_secs(seconds).saturating_sub(Duration::from_micros(1)));
        assert_eq!(try_login(&server, "ann@example.com", PASSWORD).await.0, "RATE_LIMITED", "{failures}");
        server.manual_clock.advance(Duration::from_micros(1));
    }
    server.login("ann@example.com", PASSWORD).await.expect("the right password works after the delay");
    server.login("ann@example.com", PASSWORD).await.expect("a second login needs no delay");
    server.sign_up("bob@example.com").await.expect("signed up");
    server.login("bob@example.com", PASSWORD).await.expect("other users are not delayed");
    server.stop().await;
}

async fn unknown_email_addresses_are_throttled_like_existing_accounts(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for _ in 0..4 {
        let mut results = Vec::new();
        for email in ["ann@example.com", "nobody@example.com"] {
            let first = try_login(&server, email, "a wrong one").await;
            results.push((first, try_login(&server, email, "a wrong one").await));
        }
        assert_eq!(results[0], results[1]);
        server.manual_clock.advance(Duration::from_secs(3));
    }
    server.stop().await;
}

async fn few_of_many_concurrent_guesses_are_tried_and_existing_sessions_keep_working(database: TestDatabase) {
    let server = start(database).await;
    let owner = server.sign_up_and_login("ann@example.com").await;
    let mut guesses = JoinSet::new();
    for number in 0..200 {
        let mut client = server.auth();
        let (email, password) = ("ann@example.com".to_owned(), format!("wrong one {number}"));
        let request = LoginRequest { email, password, ..LoginRequest::default() };
        guesses
            .spawn(async move { reason_and_delay(&client.login(Request::new(request)).await.expect_err("refused")).0 });
    }
    let reasons = guesses.join_all().await;
    let tried = reasons.iter().filter(|reason| *reason == "CREDENTIALS_INVALID").count();
    assert!((1..=10).contains(&tried), "{tried} were tried");
    assert!(reasons.iter().all(|reason| ["CREDENTIALS_INVALID", "RATE_LIMITED"].contains(&&reason[..])), "{reasons:?}");
    server.get_me(&owner.access_token).await.expect("the token is valid");
    server.refresh(&owner.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(Duration::from_secs(5));
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_hundred_failed_logins_block_the_account_until_the_next_day(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    // Starts at midnight UTC, so that the day does not end before the last guess.
    let seconds_since_midnight =
        u64::try_from(server.clock.now().as_seconds().rem_euclid(86_400)).expect("not negative");
    server.manual_clock.advance(Duration::from_secs(86_400 - seconds_since_midnight));
    for number in 0..100 {
        assert_eq!(try_login(&server, "ann@example.com", "a wrong one").await, invalid_credentials(), "{number}");
        server.manual_clock.advance(Duration::from_secs(10));
    }
    let (reason, delay) = try_login(&server, "ann@example.com", PASSWORD).await;
    assert_eq!(reason, "RATE_LIMITED");
    assert!((85_300..=85_400).contains(&delay), "{delay}");
    server.manual_clock.advance(Duration::from_secs(delay + 1));
    server.login("ann@example.com", PASSWORD).await.expect("the next day has begun");
    server.stop().await;
}

async fn replicas_share_the_count_of_failed_logins(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let other = support::start_replica_with(&server, server.clock.clone(), &FLAGS).await;
    assert_eq!(try_login(&server, "ann@example.com", "a wrong one").await, invalid_credentials());
    let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
    let request = LoginRequest { email, password, ..LoginRequest::default() };
    assert_refused!(other.auth().login(request).await, ResourceExhausted, "RATE_LIMITED");
    other.stop().await;
    server.stop().await;
}

async fn password_changes_with_a_wrong_password_are_throttled_like_logins(database: TestDatabase) {
    let server = start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let change = async |current: &str| {
        let new_password = "a stapled battery of horses".to_owned();
        let request = ChangePasswordRequest { current_password: current.to_owned(), new_password };
        server.account().change_password(bearer(&ann.access_token, request)).await
    };
    assert_refused!(change("a wrong one").await, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    assert_refused!(change(PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    assert_eq!(try_login(&server, "ann@example.com", PASSWORD).await, rate_limited(1));
    server.manual_clock.advance(Duration::from_secs(1));
    change(PASSWORD).await.expect("changed");
    server.stop().await;
}

async fn throttling_can_be_switched_off(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "off"]).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for _ in 0..3 {
        assert_eq!(try_login(&server, "ann@example.com", "a wrong one").await, invalid_credentials());
    }
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.stop().await;
}
