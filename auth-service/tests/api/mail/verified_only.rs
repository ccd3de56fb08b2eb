//! `--require-verified-email`: only verified addresses can log in, and sign-ups reveal no accounts.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{User, VerifyEmailRequest};

use super::{start, start_with, token_in};
use crate::support::{PASSWORD, Server, run_program};

on_each_database! {
    unverified_accounts_cannot_log_in,
    a_sign_up_does_not_reveal_that_the_address_has_an_account,
}

const EMAIL: &str = "ann@example.com";
const REQUIRED: [&str; 1] = ["--require-verified-email"];

async fn verify(server: &Server, token: String) {
    let request = VerifyEmailRequest { token, ..VerifyEmailRequest::default() };
    server.auth().verify_email(request).await.expect("verified");
}

async fn unverified_accounts_cannot_log_in(database: TestDatabase) {
    let (server, mailbox) = start_with(database, &REQUIRED).await;
    server.sign_up(EMAIL).await.expect("signed up");
    mailbox.await_mail(EMAIL, 1).await;
    assert_refused!(server.login(EMAIL, "a wrong password").await, Unauthenticated, "CREDENTIALS_INVALID");
    assert_refused!(server.login(EMAIL, PASSWORD).await, FailedPrecondition, "EMAIL_UNVERIFIED");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    verify(&server, token_in(&mail, "verifyEmail")).await;
    server.login(EMAIL, PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_sign_up_does_not_reveal_that_the_address_has_an_account(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    server.sign_up(EMAIL).await.expect("signed up");
    mailbox.await_mail(EMAIL, 1).await;
    assert_refused!(server.sign_up(EMAIL).await, AlreadyExists, "EMAIL_TAKEN", "email");
    let (server, mailbox) = start_with(server.stop().await, &REQUIRED).await;
    let shape =
        |user: User| User { id: String::new(), email: String::new(), create_time: None, update_time: None, ..user };
    let existing = server.sign_up(EMAIL).await.expect("the same response");
    let created = server.sign_up("bob@example.com").await.expect("signed up");
    assert_eq!((&existing.email[..], &created.email[..]), (EMAIL, "bob@example.com"));
    assert!(existing.create_time == existing.update_time && created.create_time == created.update_time);
    assert_eq!(shape(existing), shape(created));
    let mail = mailbox.await_mail(EMAIL, 2).await;
    assert!(mail.contains("\nSubject: You already have an account\n"), "{mail}");
    mailbox.await_mail("bob@example.com", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn verification_needs_mail() {
    let database = TestDatabase::sqlite();
    let keys = database.key_file().display().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--key-file", &keys, "--require-verified-email"];
    let (succeeded, _, error) = run_program(&database, &flags);
    assert!(!succeeded && error.contains("--require-verified-email needs --mail"), "{error}");
}
