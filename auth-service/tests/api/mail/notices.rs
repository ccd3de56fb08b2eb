//! Owners are informed about logins from new networks, and about stolen tokens.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{LoginRequest, TokenPair};
use tonic::Request;

use super::{start, start_with};
use crate::support::{PASSWORD, Server};

on_each_database! {
    a_login_from_a_new_network_is_announced_once,
    a_reused_refresh_token_is_announced,
}

const EMAIL: &str = "ann@example.com";

async fn log_in_from(server: &Server, address: &str) -> TokenPair {
    let (email, password) = (EMAIL.to_owned(), PASSWORD.to_owned());
    let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
    request.metadata_mut().insert("x-forwarded-for", address.parse().expect("ASCII"));
    server.auth().login(request).await.expect("logged in").into_inner()
}

async fn a_login_from_a_new_network_is_announced_once(database: TestDatabase) {
    let flags = ["--rate-limits", "on", "--login-rate", "1000+1000/s", "--trusted-proxies", "127.0.0.0/8"];
    let (server, mailbox) = start_with(database, &flags).await;
    server.sign_up(EMAIL).await.expect("signed up");
    mailbox.await_mail(EMAIL, 1).await;
    for address in ["192.0.2.1", "192.0.2.1", "203.0.113.7", "203.0.113.7", "192.0.2.1"] {
        log_in_from(&server, address).await;
    }
    let mail = mailbox.await_mail(EMAIL, 2).await;
    assert!(mail.contains("\nSubject: New login to your account\n") && mail.contains("203.0.113.7"), "{mail}");
    log_in_from(&server, "198.51.100.9").await;
    assert!(mailbox.await_mail(EMAIL, 3).await.contains("198.51.100.9"));
    server.stop().await;
}

async fn a_reused_refresh_token_is_announced(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let stolen = server.sign_up_and_login(EMAIL).await;
    let next = server.refresh(&stolen.refresh_token).await.expect("refreshed");
    server.refresh(&next.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(Duration::from_secs(61));
    for _ in 0..2 {
        assert_refused!(server.refresh(&stolen.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    }
    let mail = mailbox.await_mail(EMAIL, 2).await;
    assert!(mail.contains("\nSubject: A device was logged out for safety\n"), "{mail}");
    server.stop().await;
}
