//! Sign-up.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::SignUpRequest;
use tokio::task::JoinSet;

use crate::support::{PASSWORD, Server};

on_each_database! {
    sign_up_returns_the_account_with_a_canonical_email_address,
    email_addresses_are_unique_ignoring_case,
    blanks_around_an_email_address_are_ignored,
    concurrent_sign_ups_create_one_account,
    every_invalid_field_is_named,
    a_new_password_that_breaks_a_rule_is_rejected,
    the_minimum_password_length_can_be_configured,
    passwords_are_not_truncated,
    an_oversized_password_is_refused_before_it_is_hashed,
}

async fn sign_up(server: &Server, email: &str, password: &str, name: &str) -> Result<(), tonic::Status> {
    let request = SignUpRequest { email: email.into(), password: password.into(), display_name: name.into() };
    server.auth().sign_up(request).await.map(|_| ())
}

async fn sign_up_returns_the_account_with_a_canonical_email_address(database: TestDatabase) {
    let server = Server::start(database).await;
    let user = server.sign_up("Ann@Bücher.Example").await.expect("signed up");
    assert_eq!(user.email, "ann@xn--bcher-kva.example");
    assert_eq!((user.email_verified, user.disabled, &user.roles[..]), (false, false, &[][..]));
    assert_eq!(user.create_time, user.update_time);
    server.stop().await;
}

async fn email_addresses_are_unique_ignoring_case(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    assert_refused!(server.sign_up("ANN@Example.COM").await, AlreadyExists, "EMAIL_TAKEN", "email");
    server.stop().await;
}

async fn blanks_around_an_email_address_are_ignored(database: TestDatabase) {
    let server = Server::start(database).await;
    let user = server.sign_up(" ann@example.com\t").await.expect("signed up");
    assert_eq!(user.email, "ann@example.com");
    for email in ["ann@example.com", "ann@example.com ", "\u{a0}ANN@example.com\n"] {
        server.login(email, PASSWORD).await.expect("logged in");
        assert_refused!(server.sign_up(email).await, AlreadyExists, "EMAIL_TAKEN", "email");
    }
    assert_refused!(server.sign_up("ann @example.com").await, InvalidArgument, "VALIDATION_FAILED", "email");
    let email = " the.long.address@example.com ";
    let outcome = sign_up(&server, email, email.trim(), "").await;
    assert_refused!(outcome, InvalidArgument, "PASSWORD_REJECTED", "password");
    server.stop().await;
}

async fn concurrent_sign_ups_create_one_account(database: TestDatabase) {
    // Cheap hashes and a long timeout, so that no sign-up is refused because the machine is busy. One client may have a
    // quarter of the queue for each hash that may run.
    let concurrency = ["--password-concurrency", "4"];
    let flags = ["--password-memory-kib", "8", "--password-passes", "1", "--request-timeout", "60s"];
    let server = Server::start_with(database, &[&concurrency[..], &flags].concat()).await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let mut client = server.auth();
        calls.spawn(async move {
            let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
            client.sign_up(SignUpRequest { email, password, display_name: String::new() }).await
        });
    }
    let (created, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (1, 49));
    for outcome in refused {
        assert_refused!(outcome, AlreadyExists, "EMAIL_TAKEN", "email");
    }
    server.stop().await;
}

async fn every_invalid_field_is_named(database: TestDatabase) {
    let server = Server::start(database).await;
    let long = "ß".repeat(101);
    for email in ["", "ann", "ann@", "@example.com", "ann\0@example.com", "ann@exa mple.com", "ann@exa\nmple.com"] {
        let outcome = sign_up(&server, email, PASSWORD, "Ann").await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "email");
    }
    for name in ["Ann\0", "Ann\nBee", "\u{1b}[31mAnn", &long] {
        let outcome = sign_up(&server, "ann@example.com", PASSWORD, name).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "display_name");
    }
    let outcome = sign_up(&server, "", "short", "Ann\0").await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "display_name", "email", "password");
    assert_eq!(sign_up(&server, "ann@example.com", PASSWORD, &"ß".repeat(100)).await.map_err(|e| e.code()), Ok(()));
    server.stop().await;
}

async fn a_new_password_that_breaks_a_rule_is_rejected(database: TestDatabase) {
    let server = Server::start(database).await;
    let long = "x".repeat(129);
    for password in ["", "fourteen chars", "with a \0 NUL character", "with a\ttabulator in it", &long] {
        let outcome = sign_up(&server, "ann@example.com", password, "").await;
        assert_refused!(outcome, InvalidArgument, "PASSWORD_REJECTED", "password");
    }
    server.stop().await;
}

async fn the_minimum_password_length_can_be_configured(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-min-length", "8"]).await;
    assert_refused!(sign_up(&server, "a@x.io", "seven 7", "").await, InvalidArgument, "PASSWORD_REJECTED", "password");
    sign_up(&server, "a@x.io", "eight 88", "").await.expect("long enough");
    server.stop().await;
}

async fn passwords_are_not_truncated(database: TestDatabase) {
    let server = Server::start(database).await;
    let ending = |end: &str| format!("{}{end}", "ß".repeat(127));
    sign_up(&server, "a@x.io", &ending("a"), "").await.expect("128 code points");
    for other in ["b", "", "ab"] {
        assert_refused!(server.login("a@x.io", &ending(other)).await, Unauthenticated, "CREDENTIALS_INVALID");
    }
    server.login("a@x.io", &ending("a")).await.expect("the full password matches");
    server.stop().await;
}

async fn an_oversized_password_is_refused_before_it_is_hashed(database: TestDatabase) {
    let huge = "x".repeat(4 * 1024 * 1024);
    let server = Server::start(database).await;
    assert_refused!(sign_up(&server, "a@x.io", &huge, "").await, ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert_refused!(server.login("a@x.io", &huge).await, ResourceExhausted, "MESSAGE_TOO_LARGE");

    // With a larger message limit, the password must still be refused before hashing, which would exceed the timeout.
    let costly = ["--password-memory-kib", "262144", "--password-passes", "8", "--request-timeout", "1s"];
    let flags = [&costly[..], &["--max-request-bytes", "8388608"]].concat();
    let server = Server::start_with(server.stop().await, &flags).await;
    sign_up(&server, "a@x.io", PASSWORD, "").await.expect_err("a hash exceeds the timeout");
    assert_refused!(sign_up(&server, "a@x.io", &huge, "").await, InvalidArgument, "PASSWORD_REJECTED", "password");
    assert_refused!(server.login("a@x.io", &huge).await, InvalidArgument, "VALIDATION_FAILED", "password");
    server.stop().await;
}
