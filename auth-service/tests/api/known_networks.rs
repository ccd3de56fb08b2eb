//! Login throttling per network: strangers cannot lock out the owner of an account, and administrators can unlock it.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    AuditEvent, ListMySecurityEventsRequest, LoginRequest, RefreshRequest, TokenPair, UnlockUserRequest,
    admin_service_client::AdminServiceClient, audit_event::Kind,
};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use crate::support::{self, PASSWORD, Server, bearer, execute, query_string, run_program, user_id};

on_each_database! {
    a_hundred_wrong_passwords_from_strangers_do_not_delay_the_owner,
    wrong_passwords_on_a_known_network_do_not_count_elsewhere,
    a_correct_password_resets_the_count_of_wrong_ones,
    forty_concurrent_correct_logins_succeed,
    at_most_a_hundred_concurrent_guesses_on_two_replicas_are_evaluated,
    a_network_is_known_for_30_days_after_it_was_used,
    a_refresh_makes_the_network_known,
    the_twenty_networks_that_were_used_last_are_known,
    an_administrator_can_unlock_an_account,
    the_command_line_tool_can_unlock_an_account,
    old_counters_are_removed_and_known_networks_are_kept,
}

/// The limit of each address is raised so that it does not interfere. Clients choose their addresses.
const FLAGS: [&str; 8] = [
    "--login-rate",
    "1000000+1/s",
    "--trusted-proxies",
    "127.0.0.0/8",
    "--password-memory-kib",
    "8",
    "--password-passes",
    "1",
];

const HOME: &str = "192.0.2.1";
const STRANGER: &str = "203.0.113.7";
const WRONG: &str = "a wrong one";

async fn start(database: TestDatabase) -> Server {
    Server::start_with(database, &FLAGS).await
}

/// Starts a server at midnight UTC, so that the day does not end during the test.
async fn start_at_midnight(database: TestDatabase) -> Server {
    let server = start(database).await;
    let seconds = u64::try_from(server.clock.now().as_seconds().rem_euclid(86_400)).expect("not negative");
    server.manual_clock.advance(Duration::from_secs(86_400 - seconds));
    server
}

fn login_request(address: &str, password: &str) -> Request<LoginRequest> {
    let (email, password) = ("ann@example.com".to_owned(), password.to_owned());
    let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
    request.metadata_mut().insert("x-forwarded-for", address.parse().expect("ASCII"));
    request
}

async fn login(server: &Server, address: &str, password: &str) -> Result<TokenPair, Status> {
    server.auth().login(login_request(address, password)).await.map(Response::into_inner)
}

/// Sends wrong passwords, each after the maximum delay.
async fn guess(server: &Server, address: &str, count: usize) {
    for _ in 0..count {
        assert_refused!(login(server, address, WRONG).await, Unauthenticated, "CREDENTIALS_INVALID");
        server.manual_clock.advance(Duration::from_secs(10));
    }
}

async fn a_hundred_wrong_passwords_from_strangers_do_not_delay_the_owner(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    login(&server, HOME, PASSWORD).await.expect("logged in");
    for number in 0..100 {
        let stranger = format!("203.0.113.{number}");
        assert_refused!(login(&server, &stranger, WRONG).await, Unauthenticated, "CREDENTIALS_INVALID");
        login(&server, HOME, PASSWORD).await.expect("the owner is not delayed");
        server.manual_clock.advance(Duration::from_secs(10));
    }
    assert_refused!(login(&server, STRANGER, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    login(&server, HOME, PASSWORD).await.expect("the owner is not locked out");
    server.stop().await;
}

async fn wrong_passwords_on_a_known_network_do_not_count_elsewhere(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for address in [HOME, "2001:db8::1"] {
        login(&server, address, PASSWORD).await.expect("logged in");
    }
    guess(&server, HOME, 100).await;
    assert_refused!(login(&server, HOME, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    login(&server, "2001:db8::2", PASSWORD).await.expect("the /64 network is known");
    login(&server, STRANGER, PASSWORD).await.expect("other networks have their own counter");
    server.stop().await;
}

async fn a_correct_password_resets_the_count_of_wrong_ones(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for address in [HOME, HOME, STRANGER] {
        guess(&server, address, 60).await;
        login(&server, address, PASSWORD).await.expect("fewer than a hundred consecutive failures");
        assert_refused!(login(&server, "198.51.100.9", WRONG).await, Unauthenticated, "CREDENTIALS_INVALID");
        assert_refused!(login(&server, "198.51.100.9", WRONG).await, ResourceExhausted, "RATE_LIMITED");
        server.manual_clock.advance(Duration::from_secs(1));
    }
    server.stop().await;
}

async fn forty_concurrent_correct_logins_succeed(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for count in [12, 40] {
        let mut logins = JoinSet::new();
        for _ in 0..count {
            let mut client = server.auth();
            logins.spawn(async move { client.login(login_request(HOME, PASSWORD)).await.map(|_| ()) });
        }
        assert_eq!(logins.join_all().await.into_iter().filter_map(Result::err).count(), 0, "of {count}");
    }
    server.stop().await;
}

async fn at_most_a_hundred_concurrent_guesses_on_two_replicas_are_evaluated(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let replica = support::start_replica_with(&server, server.clock.clone(), &FLAGS).await;
    guess(&server, STRANGER, 95).await;
    let mut guesses = JoinSet::new();
    for number in 0..60 {
        let mut client = if number % 2 == 0 { server.auth() } else { replica.auth() };
        guesses
            .spawn(async move { refusal(&client.login(login_request(STRANGER, WRONG)).await.expect_err("refused")).1 });
    }
    let evaluated = guesses.join_all().await.iter().filter(|reason| *reason == "CREDENTIALS_INVALID").count();
    assert!((1..=5).contains(&evaluated), "{evaluated} were evaluated");
    replica.stop().await;
    server.stop().await;
}

async fn a_network_is_known_for_30_days_after_it_was_used(database: TestDatabase) {
    const DAY: Duration = Duration::from_secs(86_400);
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    login(&server, HOME, PASSWORD).await.expect("logged in");
    server.manual_clock.advance(29 * DAY);
    guess(&server, STRANGER, 100).await;
    login(&server, HOME, PASSWORD).await.expect("the network is known, and now renewed");
    server.manual_clock.advance(30 * DAY);
    guess(&server, STRANGER, 100).await;
    assert_refused!(login(&server, HOME, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    server.stop().await;
}

async fn a_refresh_makes_the_network_known(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let pair = login(&server, HOME, PASSWORD).await.expect("logged in");
    let mut request = Request::new(RefreshRequest { refresh_token: pair.refresh_token });
    request.metadata_mut().insert("x-forwarded-for", "198.51.100.9".parse().expect("ASCII"));
    server.auth().refresh(request).await.expect("refreshed");
    guess(&server, STRANGER, 100).await;
    login(&server, "198.51.100.9", PASSWORD).await.expect("the network of the refresh is known");
    server.stop().await;
}

async fn the_twenty_networks_that_were_used_last_are_known(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for number in 0..=20 {
        login(&server, &format!("198.51.100.{number}"), PASSWORD).await.expect("logged in");
        server.manual_clock.advance(Duration::from_secs(1));
    }
    let count = "select cast(count(*) as text) from guesses where network <> ''";
    assert_eq!(query_string(&server.database, count).await, "20");
    guess(&server, STRANGER, 100).await;
    assert_refused!(login(&server, "198.51.100.0", PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    for number in [1, 20] {
        login(&server, &format!("198.51.100.{number}"), PASSWORD).await.expect("the network is known");
    }
    server.stop().await;
}

/// Returns the events of the account, newest first.
async fn events(server: &Server, pair: &TokenPair) -> Vec<AuditEvent> {
    let request = bearer(&pair.access_token, ListMySecurityEventsRequest::default());
    server.account().list_my_security_events(request).await.expect("listed").into_inner().events
}

async fn an_administrator_can_unlock_an_account(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("admin@example.com").await.expect("signed up");
    execute(&server.database, "update users set roles = 'admin'").await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    guess(&server, "127.0.0.1", 100).await;
    guess(&server, STRANGER, 100).await;
    let admin = server.login("admin@example.com", PASSWORD).await.expect("logged in");
    let unlock = async |id: String| {
        let request = bearer(&admin.access_token, UnlockUserRequest { user_id: id });
        AdminServiceClient::new(server.channel.clone()).unlock_user(request).await.map(Response::into_inner)
    };
    for _ in 0..2 {
        assert_eq!(unlock(user_id(&ann)).await.expect("unlocked").email, "ann@example.com");
    }
    for address in ["127.0.0.1", STRANGER] {
        login(&server, address, PASSWORD).await.expect("the account is unlocked");
    }
    let ann = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let events = events(&server, &ann).await;
    let unlocks: Vec<_> = events.iter().filter(|event| event.kind() == Kind::UserUnlocked).collect();
    assert_eq!(unlocks.iter().map(|event| &event.actor_id).collect::<Vec<_>>(), [&user_id(&admin)]);
    assert_refused!(unlock("x".to_owned()).await, InvalidArgument, "VALIDATION_FAILED", "user_id");
    assert_refused!(unlock(server.clock.new_id().to_string()).await, NotFound, "USER_NOT_FOUND");
    server.stop().await;
}

async fn the_command_line_tool_can_unlock_an_account(database: TestDatabase) {
    let server = start_at_midnight(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    guess(&server, STRANGER, 100).await;
    let (succeeded, output, error) = run_program(&server.database, &["users", "unlock", "Ann@Example.com"]);
    assert!(succeeded && output.is_empty() && error.is_empty(), "{error}");
    let ann = login(&server, STRANGER, PASSWORD).await.expect("the account is unlocked");
    let event = events(&server, &ann).await.into_iter().find(|event| event.kind() == Kind::UserUnlocked);
    assert_eq!(event.expect("an event").actor_id, "");
    let (succeeded, _, error) = run_program(&server.database, &["users", "unlock", "nobody@example.com"]);
    assert!(!succeeded && error.contains("nobody@example.com has no account"), "{error}");
    server.stop().await;
}

async fn old_counters_are_removed_and_known_networks_are_kept(database: TestDatabase) {
    let server = start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    login(&server, HOME, PASSWORD).await.expect("logged in");
    login(&server, "192.0.2.2", PASSWORD).await.expect("logged in");
    guess(&server, STRANGER, 1).await;
    let database = server.stop().await;
    execute(&database, "update guesses set day = day - 3").await;
    execute(&database, "update guesses set succeeded_at = 1 where network = '192.0.2.2'").await;
    let server = start(database).await;
    let remaining = "select string_agg(network, ',') from guesses";
    let removed = async { while query_string(&server.database, remaining).await != HOME {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at start-up");
    server.stop().await;
}
