//! Guessing passwords is slow, and the owner is not locked out.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase, testing::refusal};
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{self, PASSWORD, Server, bearer};

on_each_database! {
    after_wrong_passwords_the_next_attempt_must_wait,
    an_address_without_an_account_is_answered_just_the_same,
    of_many_guesses_at_once_few_are_tried_and_the_owner_works_on,
    after_a_hundred_wrong_passwords_the_day_is_over,
    replicas_count_together,
    the_current_password_cannot_be_guessed_either,
    switched_off_nothing_is_limited,
}

/// All guesses come from one address, whose own limit is another test's question.
const FLAGS: [&str; 6] = ["--login-rate", "1000000+1/s", "--password-memory-kib", "8", "--password-passes", "1"];

async fn start(database: TestDatabase) -> Server {
    Server::start_with(database, &FLAGS).await
}

/// How a login is answered: the reason, and how many seconds to wait.
async fn answer(server: &Server, email: &str, password: &str) -> (String, u64) {
    match server.login(email, password).await {
        Ok(_) => ("in".to_owned(), 0),
        Err(status) => told(&status),
    }
}

fn told(status: &Status) -> (String, u64) {
    let (code, reason, _) = refusal(status);
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).map_or(0, |delay| delay.as_secs());
    assert_eq!(code == Code::ResourceExhausted, reason == "RATE_LIMITED", "{status:?}");
    (reason, wait)
}

fn wrong() -> (String, u64) {
    ("CREDENTIALS_INVALID".to_owned(), 0)
}

fn limited(seconds: u64) -> (String, u64) {
    ("RATE_LIMITED".to_owned(), seconds)
}

async fn after_wrong_passwords_the_next_attempt_must_wait(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for (failures, seconds) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        assert_eq!(answer(&server, "ann@example.com", "a wrong one").await, wrong(), "{failures}");
        assert_eq!(answer(&server, "Ann@Example.com", PASSWORD).await, limited(seconds), "{failures}");
        server.hands.advance(Duration::from_secs(seconds).saturating_sub(Duration::from_micros(1)));
        assert_eq!(answer(&server, "ann@example.com", PASSWORD).await.0, "RATE_LIMITED", "{failures}");
        server.hands.advance(Duration::from_micros(1));
    }
    server.login("ann@example.com", PASSWORD).await.expect("the right one works once the time has passed");
    server.login("ann@example.com", PASSWORD).await.expect("and needs no more waiting");
    server.sign_up("bob@example.com").await.expect("signed up");
    server.login("bob@example.com", PASSWORD).await.expect("nobody else waits");
    server.stop().await;
}

async fn an_address_without_an_account_is_answered_just_the_same(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for _ in 0..4 {
        let mut answers = Vec::new();
        for email in ["ann@example.com", "nobody@example.com"] {
            let first = answer(&server, email, "a wrong one").await;
            answers.push((first, answer(&server, email, "a wrong one").await));
        }
        assert_eq!(answers[0], answers[1]);
        server.hands.advance(Duration::from_secs(3));
    }
    server.stop().await;
}

async fn of_many_guesses_at_once_few_are_tried_and_the_owner_works_on(database: TestDatabase) {
    let server = start(database).await;
    let owner = server.person("ann@example.com").await;
    let mut guesses = JoinSet::new();
    for number in 0..200 {
        let mut client = server.auth();
        let (email, password) = ("ann@example.com".to_owned(), format!("wrong one {number}"));
        let request = LoginRequest { email, password, session_label: String::new() };
        guesses.spawn(async move { told(&client.login(Request::new(request)).await.expect_err("refused")).0 });
    }
    let answers = guesses.join_all().await;
    let tried = answers.iter().filter(|reason| *reason == "CREDENTIALS_INVALID").count();
    assert!((1..=10).contains(&tried), "{tried} were tried");
    assert!(answers.iter().all(|reason| ["CREDENTIALS_INVALID", "RATE_LIMITED"].contains(&&reason[..])), "{answers:?}");
    server.me(&owner.access_token).await.expect("let in");
    server.refresh(&owner.refresh_token).await.expect("refreshed");
    server.hands.advance(Duration::from_secs(5));
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn after_a_hundred_wrong_passwords_the_day_is_over(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    // It begins with the day, so that it does not end with it.
    let into_the_day = u64::try_from(server.clock.now().as_seconds().rem_euclid(86_400)).expect("not negative");
    server.hands.advance(Duration::from_secs(86_400 - into_the_day));
    for number in 0..100 {
        assert_eq!(answer(&server, "ann@example.com", "a wrong one").await, wrong(), "{number}");
        server.hands.advance(Duration::from_secs(10));
    }
    let (reason, wait) = answer(&server, "ann@example.com", PASSWORD).await;
    assert_eq!(reason, "RATE_LIMITED");
    assert!((85_300..=85_400).contains(&wait), "{wait}");
    server.hands.advance(Duration::from_secs(wait + 1));
    server.login("ann@example.com", PASSWORD).await.expect("it is another day");
    server.stop().await;
}

async fn replicas_count_together(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let other = support::second_with(&server, server.clock.clone(), &FLAGS).await;
    assert_eq!(answer(&server, "ann@example.com", "a wrong one").await, wrong());
    let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
    let request = LoginRequest { email, password, session_label: String::new() };
    assert_refused!(other.auth().login(request).await, ResourceExhausted, "RATE_LIMITED");
    other.stop().await;
    server.stop().await;
}

async fn the_current_password_cannot_be_guessed_either(database: TestDatabase) {
    let server = start(database).await;
    let ann = server.person("ann@example.com").await;
    let change = async |current: &str| {
        let new_password = "a stapled battery of horses".to_owned();
        let request = ChangePasswordRequest { current_password: current.to_owned(), new_password };
        server.account().change_password(bearer(&ann.access_token, request)).await
    };
    assert_refused!(change("a wrong one").await, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    assert_refused!(change(PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    assert_eq!(answer(&server, "ann@example.com", PASSWORD).await, limited(1));
    server.hands.advance(Duration::from_secs(1));
    change(PASSWORD).await.expect("changed");
    server.stop().await;
}

async fn switched_off_nothing_is_limited(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "off"]).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for _ in 0..3 {
        assert_eq!(answer(&server, "ann@example.com", "a wrong one").await, wrong());
    }
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.stop().await;
}
