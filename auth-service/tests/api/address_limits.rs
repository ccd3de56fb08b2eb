//! How often one address may log in, sign up and refresh.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{LoginRequest, RefreshRequest, TokenPair};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{PASSWORD, Server, issue_service_token, look_up, program};

on_each_database! {
    ten_logins_at_once_and_then_six_a_minute,
    ten_sign_ups_at_once_and_then_three_an_hour,
    refreshes_have_a_limit_of_their_own,
    a_network_of_ipv6_is_one_address,
    a_client_that_names_another_address_is_not_believed,
    a_trusted_proxy_is_believed,
    a_service_is_believed_until_its_token_is_revoked,
    a_login_beyond_the_limit_is_no_guess,
    a_request_with_a_field_at_fault_does_not_count,
}

const FLAGS: [&str; 6] = ["--rate-limits", "on", "--password-memory-kib", "8", "--password-passes", "1"];

/// A client behind a gateway, at an address of its choice.
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
        let request = self.request(LoginRequest { email, password, session_label: String::new() });
        self.server.auth().login(request).await.map(tonic::Response::into_inner)
    }

    async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = self.request(RefreshRequest { refresh_token: refresh_token.to_owned() });
        self.server.auth().refresh(request).await.map(tonic::Response::into_inner)
    }

    /// How many logins in a row are let in.
    async fn logins(&self) -> usize {
        for count in 0.. {
            if let Err(status) = self.login("ann@example.com", PASSWORD).await {
                limited(&status);
                return count;
            }
        }
        unreachable!("there is a limit")
    }
}

/// The refusal of a call that was one too many, and when to come again.
fn limited(status: &Status) -> Duration {
    assert_eq!(refusal(status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), vec![]));
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("it says when to come again")
}

async fn ten_logins_at_once_and_then_six_a_minute(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    let ann = server.person("ann@example.com").await;
    let token = issue_service_token(&server.database, "gateway");
    let here = Client { server: &server, token: Some(&token), address: "203.0.113.7" };
    assert_eq!(here.logins().await, 10);
    let status = here.login("bob@example.com", "whoever it is").await.expect_err("refused");
    assert_eq!(limited(&status), Duration::from_secs(10));

    here.refresh(&ann.refresh_token).await.expect("a live session goes on");
    let elsewhere = Client { address: "203.0.113.8", ..here };
    elsewhere.login("ann@example.com", PASSWORD).await.expect("others log in");
    server.hands.advance(Duration::from_secs(10));
    assert_eq!(here.logins().await, 1);
    server.hands.advance(Duration::from_secs(60));
    assert_eq!(here.logins().await, 6);
    server.stop().await;
}

async fn ten_sign_ups_at_once_and_then_three_an_hour(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    for number in 0..9 {
        server.sign_up(&format!("{number}@example.com")).await.expect("signed up");
    }
    // To ask whether an address has an account costs as much.
    assert_refused!(server.sign_up("0@example.com").await, AlreadyExists, "EMAIL_TAKEN", "email");
    for email in ["ten@example.com", "0@example.com"] {
        let wait = limited(&server.sign_up(email).await.expect_err("refused"));
        assert_eq!(wait, Duration::from_secs(20 * 60));
    }
    server.login("0@example.com", PASSWORD).await.expect("logins are counted apart");
    server.hands.advance(Duration::from_secs(20 * 60));
    server.sign_up("ten@example.com").await.expect("signed up");
    limited(&server.sign_up("eleven@example.com").await.expect_err("refused"));
    server.stop().await;
}

async fn refreshes_have_a_limit_of_their_own(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--refresh-rate", "3+1/h"]].concat();
    let server = Server::start_with(database, &flags).await;
    let mut pair = server.person("ann@example.com").await;
    for _ in 0..3 {
        pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    }
    let status = server.refresh(&pair.refresh_token).await.expect_err("refused");
    assert_eq!(limited(&status), Duration::from_secs(3600));
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.hands.advance(Duration::from_secs(3600));
    server.refresh(&pair.refresh_token).await.expect("the token was not used up");
    server.stop().await;
}

async fn a_network_of_ipv6_is_one_address(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let token = issue_service_token(&server.database, "gateway");
    let client = |address| Client { server: &server, token: Some(&token), address };
    assert_eq!(client("2001:db8::1").logins().await, 10);
    assert_eq!(client("2001:db8::ffff:1").logins().await, 0);
    assert_eq!(client("2001:db8:0:1::1").logins().await, 10);
    assert_eq!(client("::ffff:203.0.113.7").logins().await, 10);
    assert_eq!(client("203.0.113.7").logins().await, 0);
    server.stop().await;
}

async fn a_client_that_names_another_address_is_not_believed(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for token in [None, Some("taskey_service_wrong"), Some("wrong")] {
        let expected = if token.is_none() { 10 } else { 0 };
        assert_eq!(Client { server: &server, token, address: "203.0.113.7" }.logins().await, expected);
    }
    server.stop().await;
}

async fn a_trusted_proxy_is_believed(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--trusted-proxies", "192.0.2.1,127.0.0.0/8"]].concat();
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for address in ["203.0.113.7", "198.51.100.1, 203.0.113.8, 192.0.2.1"] {
        assert_eq!(Client { server: &server, token: None, address }.logins().await, 10);
    }
    assert_eq!(Client { server: &server, token: None, address: "203.0.113.8" }.logins().await, 0);
    server.stop().await;
}

async fn a_service_is_believed_until_its_token_is_revoked(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let token = issue_service_token(&server.database, "gateway");
    let client = |address| Client { server: &server, token: Some(&token), address };
    assert_eq!(client("203.0.113.1").logins().await, 10);
    let (good, _, error) = program(&server.database, &["tokens", "revoke-service", "gateway"]);
    assert!(good, "{error}");
    server.hands.advance(Duration::from_secs(2));
    assert_eq!(client("203.0.113.2").logins().await, 10);
    assert_eq!(client("203.0.113.3").logins().await, 0);
    server.stop().await;
}

async fn a_login_beyond_the_limit_is_no_guess(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--login-rate", "1+1/h"]].concat();
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for expected in ["CREDENTIALS_INVALID", "RATE_LIMITED", "RATE_LIMITED"] {
        let status = server.login("ann@example.com", "a wrong one").await.expect_err("refused");
        assert_eq!(refusal(&status).1, expected);
        server.hands.advance(Duration::from_secs(1));
    }
    let failures = look_up(&server.database, "select cast(max(failures) as text) from guesses").await;
    assert_eq!(failures, "1");
    server.stop().await;
}

async fn a_request_with_a_field_at_fault_does_not_count(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    for _ in 0..20 {
        assert_refused!(server.sign_up("nowhere").await, InvalidArgument, "VALIDATION_FAILED", "email");
        assert_refused!(server.login("nowhere", PASSWORD).await, InvalidArgument, "VALIDATION_FAILED", "email");
    }
    server.person("ann@example.com").await;
    server.stop().await;
}
