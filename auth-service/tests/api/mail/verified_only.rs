//! `--require-verified-email`: only verified addresses can log in, and sign-ups reveal no accounts.

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    RequestPasswordResetRequest, ResetPasswordRequest, SignUpRequest, User, VerifyEmailRequest,
};
use tonic::Code;

use super::{NEW_PASSWORD, start, start_with, token_in};
use crate::support::{PASSWORD, Server, run_program};

on_each_database! {
    unverified_accounts_cannot_log_in,
    accounts_that_have_logged_in_before_are_asked_to_verify_their_address,
    a_login_after_a_sign_up_does_not_reveal_that_the_address_had_an_account,
    a_lost_mail_is_replaced_by_a_reset_of_the_password,
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
    let mail = mailbox.await_mail(EMAIL, 1).await;
    assert_refused!(server.login(EMAIL, PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    verify(&server, token_in(&mail, "verifyEmail")).await;
    server.login(EMAIL, PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn accounts_that_have_logged_in_before_are_asked_to_verify_their_address(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    server.sign_up_and_login(EMAIL).await;
    mailbox.await_mail(EMAIL, 1).await;
    let (server, mailbox) = start_with(server.stop().await, &REQUIRED).await;
    assert_refused!(server.login(EMAIL, "a wrong password").await, Unauthenticated, "CREDENTIALS_INVALID");
    assert_refused!(server.login(EMAIL, PASSWORD).await, FailedPrecondition, "EMAIL_UNVERIFIED");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    verify(&server, token_in(&mail, "verifyEmail")).await;
    server.login(EMAIL, PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_login_after_a_sign_up_does_not_reveal_that_the_address_had_an_account(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    server.sign_up("unverified@example.com").await.expect("signed up");
    server.sign_up_and_login("verified@example.com").await;
    let mail = mailbox.await_mail("verified@example.com", 1).await;
    verify(&server, token_in(&mail, "verifyEmail")).await;
    let (server, _) = start_with(server.stop().await, &REQUIRED).await;
    let password = "chosen by somebody else";
    let mut responses = Vec::new();
    for email in ["unverified@example.com", "verified@example.com", "new@example.com"] {
        let request = SignUpRequest { email: email.into(), password: password.into(), display_name: String::new() };
        server.auth().sign_up(request).await.expect("the same response");
        let status = server.login(email, password).await.expect_err("refused");
        responses.push((status.code(), status.message().to_owned(), refusal(&status)));
    }
    assert_eq!(responses[0].2, (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned(), vec![]));
    assert!(responses.iter().all(|response| *response == responses[0]), "{responses:#?}");
    server.stop().await;
}

async fn a_lost_mail_is_replaced_by_a_reset_of_the_password(database: TestDatabase) {
    let (server, mailbox) = start_with(database, &REQUIRED).await;
    server.sign_up(EMAIL).await.expect("signed up");
    mailbox.await_mail(EMAIL, 1).await;
    let request = RequestPasswordResetRequest { email: EMAIL.to_owned() };
    server.auth().request_password_reset(request).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    let token = token_in(&mail, "resetPassword");
    let request = ResetPasswordRequest { token, new_password: NEW_PASSWORD.to_owned(), ..Default::default() };
    server.auth().reset_password(request).await.expect("reset");
    server.login(EMAIL, NEW_PASSWORD).await.expect("the address is verified");
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
