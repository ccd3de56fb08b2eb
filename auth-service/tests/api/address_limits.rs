//! Rate limits on logins, sign-ups and refreshes from one IP address.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest, RefreshRequest, TokenPair};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{PASSWORD, Server, bearer, issue_service_token, query_string, run_program};

on_each_database! {
    an_address_can_log_in_ten_times_and_then_six_times_a_minute,
    an_address_can_sign_up_ten_times_and_then_three_times_an_hour,
    password_changes_and_deletions_count_as_logins,
    refreshes_are_limited_separately,
    ipv6_addresses_with_the_same_64_bit_prefix_share_a_limit,
    a_forwarded_address_from_a_client_is_ignored,
    a_forwarded_address_from_a_trusted_proxy_is_used,
    a_forwarded_address_from_a_service_is_used_until_its_token_is_revoked,
    a_rate_limited_login_does_not_count_as_a_failed_login,
    an_invalid_request_does_not_count_against_the_limit,
}

const FLAGS: [&str; 6] = ["--rate-limits", "on", "--password-memory-kib", "8", "--password-passes", "1"];

/// A client whose requests carry this address in `x-forwarded-for`, with an optional service token.
struct Client<'a> {
    server: &'a Server,
    token: Option<&'a str>,
    address: &'a str,
}

impl Client<'_> {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-forwarded-for", self.address.parse().expect("ASCII"));
        if let Some(token) = self.token {
            request.metadata_mut().insert("x-taskey-service-token", token.parse().expect("ASCII"));
        }
        request
    }

    async fn login(&self, email: &str, password: &str) -> Result<TokenPair, Status> {
        let (email, password) = (email.to_owned(), password.to_owned());
        let request = self.request(LoginRequest { email, password, ..LoginRequest::default() });
        self.server.auth().login(request).await.map(tonic::Response::into_inner)
    }

    async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = self.request(RefreshRequest { refresh_token: refresh_token.to_owned() });
        self.server.auth().refresh(request).await.map(tonic::Response::into_inner)
    }

    /// Logs in until the rate limit is reached, and returns the number of successful logins.
    async fn count_logins(&self) -> usize {
        for count in 0.. {
            if let Err(status) = self.login("ann@example.com", PASSWORD).await {
                assert_rate_limited(&status);
                return count;
            }
        }
        unreachable!("there is a limit")
    }
}

/// Asserts that a call exceeded a rate limit, and returns the retry delay.
fn assert_rate_limited(status: &Status) -> Duration {
    assert_eq!(refusal(status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), vec![]));
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("the error has a retry delay")
}

async fn an_address_can_log_in_ten_times_and_then_six_times_a_minute(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let token = issue_service_token(&server.database, "gateway");
    let client = Client { server: &server, token: Some(&token), address: "203.0.113.7" };
    assert_eq!(client.count_logins().await, 10);
    let status = client.login("bob@example.com", "any password").await.expect_err("refused");
    assert_eq!(assert_rate_limited(&status), Duration::from_secs(10));

    client.refresh(&ann.refresh_token).await.expect("refreshes are not limited by logins");
    let other_client = Client { address: "203.0.113.8", ..client };
    other_client.login("ann@example.com", PASSWORD).await.expect("other addresses can log in");
    server.manual_clock.advance(Duration::from_secs(10));
    assert_eq!(client.count_logins().await, 1);
    server.manual_clock.advance(Duration::from_secs(60));
    assert_eq!(client.count_logins().await, 6);
    server.stop().await;
}

async fn an_address_can_sign_up_ten_times_and_then_three_times_an_hour(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    for number in 0..9 {
        server.sign_up(&format!("{number}@example.com")).await.expect("signed up");
    }
    // A sign-up that fails because the account exists counts as well.
    assert_refused!(server.sign_up("0@example.com").await, AlreadyExists, "EMAIL_TAKEN", "email");
    for email in ["ten@example.com", "0@example.com"] {
        let wait = assert_rate_limited(&server.sign_up(email).await.expect_err("refused"));
        assert_eq!(wait, Duration::from_secs(20 * 60));
    }
    server.login("0@example.com", PASSWORD).await.expect("logins are counted separately");
    server.manual_clock.advance(Duration::from_secs(20 * 60));
    server.sign_up("ten@example.com").await.expect("signed up");
    assert_rate_limited(&server.sign_up("eleven@example.com").await.expect_err("refused"));
    server.stop().await;
}

async fn refreshes_are_limited_separately(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--refresh-rate", "3+1/h"]].concat();
    let server = Server::start_with(database, &flags).await;
    let mut pair = server.sign_up_and_login("ann@example.com").await;
    for _ in 0..3 {
        pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    }
    let status = server.refresh(&pair.refresh_token).await.expect_err("refused");
    assert_eq!(assert_rate_limited(&status), Duration::from_secs(3600));
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.manual_clock.advance(Duration::from_secs(3600));
    server.refresh(&pair.refresh_token).await.expect("the token was not used up");
    server.stop().await;
}

async fn ipv6_addresses_with_the_same_64_bit_prefix_share_a_limit(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let token = issue_service_token(&server.database, "gateway");
    let client = |address| Client { server: &server, token: Some(&token), address };
    assert_eq!(client("2001:db8::1").count_logins().await, 10);
    assert_eq!(client("2001:db8::ffff:1").count_logins().await, 0);
    assert_eq!(client("2001:db8:0:1::1").count_logins().await, 10);
    assert_eq!(client("::ffff:203.0.113.7").count_logins().await, 10);
    assert_eq!(client("203.0.113.7").count_logins().await, 0);
    server.stop().await;
}

async fn a_forwarded_address_from_a_client_is_ignored(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for token in [None, Some("taskey_service_wrong"), Some("wrong")] {
        let expected = if token.is_none() { 10 } else { 0 };
        assert_eq!(Client { server: &server, token, address: "203.0.113.7" }.count_logins().await, expected);
    }
    server.stop().await;
}

async fn password_changes_and_deletions_count_as_logins(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let change = || {
        let (current_password, new_password) = (PASSWORD.to_owned(), PASSWORD.to_owned());
        let request = bearer(&ann.access_token, ChangePasswordRequest { current_password, new_password });
        let mut account = server.account();
        async move { account.change_password(request).await }
    };
    for _ in 0..9 {
        change().await.expect("changed");
    }
    assert_refused!(change().await, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(server.delete_me(&ann.access_token, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(server.login("ann@example.com", PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    server.manual_clock.advance(Duration::from_secs(10));
    change().await.expect("changed");
    let events = "select cast(count(*) as text) from audit_events where kind = 'KIND_PASSWORD_CHANGED'";
    assert_eq!(query_string(&server.database, events).await, "10");
    server.stop().await;
}

async fn a_forwarded_address_from_a_trusted_proxy_is_used(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--trusted-proxies", "192.0.2.1,127.0.0.0/8"]].concat();
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for address in ["203.0.113.7", "198.51.100.1, 203.0.113.8, 192.0.2.1"] {
        assert_eq!(Client { server: &server, token: None, address }.count_logins().await, 10);
    }
    assert_eq!(Client { server: &server, token: None, address: "203.0.113.8" }.count_logins().await, 0);
    server.stop().await;
}

async fn a_forwarded_address_from_a_service_is_used_until_its_token_is_revoked(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let token = issue_service_token(&server.database, "gateway");
    let client = |address| Client { server: &server, token: Some(&token), address };
    assert_eq!(client("203.0.113.1").count_logins().await, 10);
    let (succeeded, _, error) = run_program(&server.database, &["tokens", "revoke-service", "gateway"]);
    assert!(succeeded, "{error}");
    server.manual_clock.advance(Duration::from_secs(2));
    assert_eq!(client("203.0.113.2").count_logins().await, 10);
    assert_eq!(client("203.0.113.3").count_logins().await, 0);
    server.stop().await;
}

async fn a_rate_limited_login_does_not_count_as_a_failed_login(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--login-rate", "1+1/h"]].concat();
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for expected in ["CREDENTIALS_INVALID", "RATE_LIMITED", "RATE_LIMITED"] {
        let status = server.login("ann@example.com", "a wrong one").await.expect_err("refused");
        assert_eq!(refusal(&status).1, expected);
        server.manual_clock.advance(Duration::from_secs(1));
    }
    let failures = query_string(&server.database, "select cast(max(failures) as text) from guesses").await;
    assert_eq!(failures, "1");
    server.stop().await;
}

async fn an_invalid_request_does_not_count_against_the_limit(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    for _ in 0..20 {
        assert_refused!(server.sign_up("nowhere").await, InvalidArgument, "VALIDATION_FAILED", "email");
        assert_refused!(server.login("nowhere", PASSWORD).await, InvalidArgument, "VALIDATION_FAILED", "email");
    }
    server.sign_up_and_login("ann@example.com").await;
    server.stop().await;
}
