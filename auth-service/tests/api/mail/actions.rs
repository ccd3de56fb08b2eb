//! The links and codes in mails: they verify addresses and reset passwords, once.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    RequestEmailVerificationRequest, RequestPasswordResetRequest, ResetPasswordRequest, VerifyEmailRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{FLAGS, NEW_PASSWORD, change_password, code_in, email_change::request_change, start, start_with, token_in};
use crate::support::{PASSWORD, Server, bearer, execute, start_replica_with};

on_each_database! {
    sign_up_sends_a_mail_that_verifies_the_address,
    the_code_of_the_latest_mail_verifies_the_address,
    a_verified_address_is_not_verified_again,
    a_password_reset_ends_all_sessions_and_verifies_the_address,
    a_password_reset_lifts_the_delays_after_wrong_passwords,
    a_password_change_makes_earlier_links_and_codes_invalid,
    links_and_codes_expire,
    only_one_of_concurrent_resets_on_two_replicas_succeeds,
    a_rejected_password_leaves_the_link_valid,
    tokens_are_valid_for_one_purpose_and_account,
    wrong_codes_are_throttled_like_wrong_passwords,
    an_account_gets_at_most_ten_requested_mails_an_hour,
    resets_that_strangers_request_do_not_suppress_other_mails,
    unknown_and_disabled_accounts_get_no_mail_and_the_same_response,
    a_link_that_is_obsolete_before_it_is_sent_is_not_sent,
}

const EMAIL: &str = "ann@example.com";

pub async fn request_reset(server: &Server, email: &str) -> Result<(), Status> {
    let request = RequestPasswordResetRequest { email: email.to_owned() };
    server.auth().request_password_reset(request).await.map(|_| ())
}

async fn reset(server: &Server, request: ResetPasswordRequest) -> Result<(), Status> {
    let new_password = if request.new_password.is_empty() { NEW_PASSWORD.to_owned() } else { request.new_password };
    server.auth().reset_password(ResetPasswordRequest { new_password, ..request }).await.map(|_| ())
}

pub async fn reset_with_token(server: &Server, token: &str) -> Result<(), Status> {
    reset(server, ResetPasswordRequest { token: token.to_owned(), ..ResetPasswordRequest::default() }).await
}

async fn reset_with_code(server: &Server, email: &str, code: &str) -> Result<(), Status> {
    let (email, code) = (email.to_owned(), code.to_owned());
    reset(server, ResetPasswordRequest { email, code, ..ResetPasswordRequest::default() }).await
}

async fn verify_with_token(server: &Server, token: &str) -> Result<(), Status> {
    let request = VerifyEmailRequest { token: token.to_owned(), ..VerifyEmailRequest::default() };
    server.auth().verify_email(request).await.map(|_| ())
}

async fn verify_with_code(server: &Server, email: &str, code: &str) -> Result<(), Status> {
    let request = VerifyEmailRequest { token: String::new(), email: email.to_owned(), code: code.to_owned() };
    server.auth().verify_email(request).await.map(|_| ())
}

async fn request_verification(server: &Server, access_token: &str) -> Result<(), Status> {
    let request = bearer(access_token, RequestEmailVerificationRequest {});
    server.account().request_email_verification(request).await.map(|_| ())
}

async fn sign_up_sends_a_mail_that_verifies_the_address(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    assert!(!server.get_me(&pair.access_token).await.expect("the account").email_verified);
    let mail = mailbox.await_mail(EMAIL, 1).await;
    assert!(mail.contains("\nSubject: Confirm your email address\n"), "{mail}");
    let token = token_in(&mail, "verifyEmail");
    verify_with_token(&server, &token).await.expect("verified");
    assert!(server.get_me(&pair.access_token).await.expect("the account").email_verified);
    assert_refused!(verify_with_token(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    assert_refused!(verify_with_code(&server, EMAIL, &code_in(&mail)).await, Unauthenticated, "CODE_INVALID");
    server.stop().await;
}

async fn the_code_of_the_latest_mail_verifies_the_address(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    let first = mailbox.await_mail(EMAIL, 1).await;
    request_verification(&server, &pair.access_token).await.expect("requested");
    let second = mailbox.await_mail(EMAIL, 2).await;
    assert_refused!(verify_with_code(&server, EMAIL, &code_in(&first)).await, Unauthenticated, "CODE_INVALID");
    let code = code_in(&second).replace(' ', "");
    verify_with_code(&server, "Ann@Example.com", &code).await.expect("verified");
    assert!(server.get_me(&pair.access_token).await.expect("the account").email_verified);
    server.stop().await;
}

async fn a_verified_address_is_not_verified_again(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    let mail = mailbox.await_mail(EMAIL, 1).await;
    verify_with_token(&server, &token_in(&mail, "verifyEmail")).await.expect("verified");
    request_verification(&server, &pair.access_token).await.expect("nothing to do");
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    assert!(mail.contains("\nSubject: Your password was changed\n"), "{mail}");
    server.stop().await;
}

async fn a_password_reset_ends_all_sessions_and_verifies_the_address(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    let other = server.sign_up_and_login("bob@example.com").await;
    request_reset(&server, EMAIL).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    assert!(mail.contains("\nSubject: Reset your password\n"), "{mail}");
    let token = token_in(&mail, "resetPassword");
    reset_with_token(&server, &token).await.expect("reset");
    let refused: Result<(), _> = Err(server.await_refusal(&pair.access_token).await);
    assert_refused!(refused, Unauthenticated, "TOKEN_REVOKED");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_refused!(server.login(EMAIL, PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let user = server.login(EMAIL, NEW_PASSWORD).await.expect("logged in").user.expect("the account");
    assert!(user.email_verified);
    server.get_me(&other.access_token).await.expect("other accounts are unaffected");
    assert_refused!(reset_with_token(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    let notice = mailbox.await_mail(EMAIL, 3).await;
    assert!(notice.contains("\nSubject: Your password was changed\n"), "{notice}");
    server.stop().await;
}

async fn a_password_reset_lifts_the_delays_after_wrong_passwords(database: TestDatabase) {
    let flags = ["--rate-limits", "on", "--login-rate", "1000+1000/s", "--password-memory-kib", "8"];
    let (server, mailbox) = start_with(database, &flags).await;
    server.sign_up(EMAIL).await.expect("signed up");
    request_reset(&server, EMAIL).await.expect("requested");
    let token = token_in(&mailbox.await_mail(EMAIL, 2).await, "resetPassword");
    while refusal(&server.login(EMAIL, "a wrong one").await.expect_err("refused")).1 != "RATE_LIMITED" {}
    assert_refused!(server.login(EMAIL, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    reset_with_token(&server, &token).await.expect("reset");
    server.login(EMAIL, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_password_change_makes_earlier_links_and_codes_invalid(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    request_reset(&server, EMAIL).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let token = token_in(&mail, "resetPassword");
    assert_refused!(reset_with_token(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    assert_refused!(reset_with_code(&server, EMAIL, &code_in(&mail)).await, Unauthenticated, "CODE_INVALID");
    server.stop().await;
}

async fn links_and_codes_expire(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    server.sign_up(EMAIL).await.expect("signed up");
    let verification = mailbox.await_mail(EMAIL, 1).await;
    request_reset(&server, EMAIL).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    server.manual_clock.advance(Duration::from_secs(3600));
    let token = token_in(&mail, "resetPassword");
    assert_refused!(reset_with_token(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    assert_refused!(reset_with_code(&server, EMAIL, &code_in(&mail)).await, Unauthenticated, "CODE_INVALID");
    server.manual_clock.advance(Duration::from_secs(22 * 3600));
    verify_with_token(&server, &token_in(&verification, "verifyEmail")).await.expect("valid for 24 hours");
    server.stop().await;
}

async fn only_one_of_concurrent_resets_on_two_replicas_succeeds(database: TestDatabase) {
    let cheap_hashes = ["--password-memory-kib", "8", "--password-passes", "1"];
    let (server, mailbox) = start_with(database, &cheap_hashes).await;
    let setting = mailbox.setting();
    let flags = [&FLAGS[..], &["--mail", &setting], &cheap_hashes].concat();
    let replica = start_replica_with(&server, server.clock.clone(), &flags).await;
    server.sign_up(EMAIL).await.expect("signed up");
    request_reset(&server, EMAIL).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    let (token, code) = (token_in(&mail, "resetPassword"), code_in(&mail));
    let mut resets = JoinSet::new();
    for index in 0..12 {
        let mut client = if index % 2 == 0 { server.auth() } else { replica.auth() };
        let new_password = format!("the new password of call {index}");
        let request = match index % 3 {
            0 => {
                ResetPasswordRequest { email: EMAIL.to_owned(), code: code.clone(), new_password, ..Default::default() }
            }
            _ => ResetPasswordRequest { token: token.clone(), new_password, ..Default::default() },
        };
        resets.spawn(async move { client.reset_password(request).await.map(|_| index) });
    }
    let outcomes = resets.join_all().await;
    let succeeded: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(succeeded.len(), 1, "{outcomes:?}");
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let reason = refusal(status).1;
        assert!(["ACTION_TOKEN_INVALID", "CODE_INVALID"].contains(&&reason[..]), "{status:?}");
    }
    server.login(EMAIL, &format!("the new password of call {}", succeeded[0])).await.expect("logged in");
    replica.stop().await;
    server.stop().await;
}

async fn a_rejected_password_leaves_the_link_valid(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    server.sign_up(EMAIL).await.expect("signed up");
    request_reset(&server, EMAIL).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 2).await;
    let (token, code) = (token_in(&mail, "resetPassword"), code_in(&mail));
    let weak = ResetPasswordRequest { token, new_password: "too short".to_owned(), ..ResetPasswordRequest::default() };
    assert_refused!(reset(&server, weak).await, InvalidArgument, "PASSWORD_REJECTED", "new_password");
    reset_with_code(&server, EMAIL, &code).await.expect("reset");
    server.login(EMAIL, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn tokens_are_valid_for_one_purpose_and_account(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    for email in [EMAIL, "bob@example.com"] {
        server.sign_up(email).await.expect("signed up");
        request_reset(&server, email).await.expect("requested");
    }
    let verification = mailbox.await_mail(EMAIL, 2).await;
    assert!(verification.contains("Reset"), "{verification}");
    let mails = mailbox.read(EMAIL);
    let (verification, reset_mail) = (&mails[0], &mails[1]);
    let others = mailbox.await_mail("bob@example.com", 2).await;
    let verify_token = token_in(verification, "verifyEmail");
    let reset_token = token_in(reset_mail, "resetPassword");
    let invalid = |token: String| ResetPasswordRequest { token, ..ResetPasswordRequest::default() };
    // The id of one mail with the tag of another.
    let mixed = format!("{}{}", &reset_token[..22], &token_in(&others, "resetPassword")[22..]);
    for token in [verify_token, mixed, "x".to_owned(), "A".repeat(64), "A".repeat(100_000)] {
        let refused = reset(&server, invalid(token)).await;
        assert_refused!(refused, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    }
    assert_refused!(verify_with_token(&server, &reset_token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    let code = code_in(reset_mail);
    assert_refused!(reset_with_code(&server, "bob@example.com", &code).await, Unauthenticated, "CODE_INVALID");
    assert_refused!(verify_with_code(&server, EMAIL, &code).await, Unauthenticated, "CODE_INVALID");
    reset_with_token(&server, &reset_token).await.expect("reset");
    server.stop().await;
}

async fn wrong_codes_are_throttled_like_wrong_passwords(database: TestDatabase) {
    let flags = ["--rate-limits", "on", "--login-rate", "1000+1000/s", "--password-memory-kib", "8"];
    let (server, mailbox) = start_with(database, &flags).await;
    server.sign_up(EMAIL).await.expect("signed up");
    request_reset(&server, EMAIL).await.expect("requested");
    let code = code_in(&mailbox.await_mail(EMAIL, 2).await);
    let wrong = if code == "0000 0000" { "1111 1111" } else { "0000 0000" };
    for email in [EMAIL, "unknown@example.com"] {
        assert_refused!(reset_with_code(&server, email, wrong).await, Unauthenticated, "CODE_INVALID");
        assert_refused!(reset_with_code(&server, email, wrong).await, ResourceExhausted, "RATE_LIMITED");
        assert_refused!(server.login(email, PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    }
    assert_refused!(reset_with_code(&server, EMAIL, &code).await, ResourceExhausted, "RATE_LIMITED");
    server.manual_clock.advance(Duration::from_secs(1));
    reset_with_code(&server, EMAIL, &code).await.expect("reset");
    server.login(EMAIL, NEW_PASSWORD).await.expect("no delay");
    server.stop().await;
}

async fn an_account_gets_at_most_ten_requested_mails_an_hour(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    for _ in 0..9 {
        request_verification(&server, &pair.access_token).await.expect("requested");
    }
    mailbox.await_mail(EMAIL, 10).await;
    let refused = request_verification(&server, &pair.access_token).await;
    assert_refused!(refused, ResourceExhausted, "RATE_LIMITED");
    let refused = request_change(&server, &pair, "anne@example.com", PASSWORD).await;
    assert_refused!(refused, ResourceExhausted, "RATE_LIMITED");
    server.manual_clock.advance(Duration::from_secs(3600));
    let pair = server.login(EMAIL, PASSWORD).await.expect("logged in");
    request_verification(&server, &pair.access_token).await.expect("requested");
    mailbox.await_mail(EMAIL, 11).await;
    server.stop().await;
}

async fn resets_that_strangers_request_do_not_suppress_other_mails(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    for _ in 0..11 {
        request_reset(&server, EMAIL).await.expect("the response does not say that there were too many");
    }
    mailbox.await_mail(EMAIL, 11).await;
    request_verification(&server, &pair.access_token).await.expect("requested");
    let mail = mailbox.await_mail(EMAIL, 12).await;
    assert!(mail.contains("\nSubject: Confirm your email address\n"), "{mail}");
    request_change(&server, &pair, "anne@example.com", PASSWORD).await.expect("requested");
    mailbox.await_mail("anne@example.com", 1).await;
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let mail = mailbox.await_mail(EMAIL, 13).await;
    assert!(mail.contains("\nSubject: Your password was changed\n"), "{mail}");
    server.stop().await;
}

async fn unknown_and_disabled_accounts_get_no_mail_and_the_same_response(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    for email in [EMAIL, "off@example.com"] {
        server.sign_up(email).await.expect("signed up");
        mailbox.await_mail(email, 1).await;
    }
    execute(&server.database, "update users set disabled = true where email like 'off%'").await;
    for email in ["unknown@example.com", "off@example.com", EMAIL] {
        request_reset(&server, email).await.expect("the same response");
    }
    mailbox.await_mail(EMAIL, 2).await;
    assert_eq!(mailbox.read("off@example.com").len(), 1);
    assert!(mailbox.read("unknown@example.com").is_empty());
    server.stop().await;
}

async fn a_link_that_is_obsolete_before_it_is_sent_is_not_sent(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--mail", "command:/bin/false"]].concat();
    let server = Server::start_with(database, &flags).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    request_reset(&server, EMAIL).await.expect("requested");
    super::await_value(&server.database, PENDING_WITH_ERROR, "2").await;
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let database = server.stop().await;
    execute(&database, "update mails set next_attempt_at = 0").await;
    let (server, mailbox) = start(database).await;
    // The verification of the address is still possible.
    mailbox.await_mail(EMAIL, 2).await;
    super::await_value(&server.database, "select state from mails where template = 'RESET_PASSWORD'", "obsolete").await;
    assert!(mailbox.read(EMAIL).iter().all(|mail| !mail.contains("Reset your password")));
    server.stop().await;
}

const PENDING_WITH_ERROR: &str =
    "select cast(count(*) as text) from mails where state = 'pending' and last_error <> ''";

#[tokio::test]
async fn without_mail_requests_are_refused() {
    let server = Server::start(TestDatabase::sqlite()).await;
    let pair = server.sign_up_and_login(EMAIL).await;
    for email in [EMAIL, "unknown@example.com"] {
        assert_refused!(request_reset(&server, email).await, FailedPrecondition, "MAIL_DISABLED");
    }
    let refused = request_verification(&server, &pair.access_token).await;
    assert_refused!(refused, FailedPrecondition, "MAIL_DISABLED");
    server.stop().await;
}

#[tokio::test]
async fn incomplete_requests_are_refused() {
    let server = Server::start(TestDatabase::sqlite()).await;
    let request = |token: &str, email: &str, code: &str| VerifyEmailRequest {
        token: token.to_owned(),
        email: email.to_owned(),
        code: code.to_owned(),
    };
    for (request, fields) in [
        (request("", "", ""), vec!["token"]),
        (request("token", EMAIL, ""), vec!["token"]),
        (request("token", "", "12345678"), vec!["token"]),
        (request("", EMAIL, ""), vec!["code"]),
        (request("", "", "12345678"), vec!["email"]),
        (request("", "ann", "1234"), vec!["code", "email"]),
    ] {
        let status = server.auth().verify_email(request).await.expect_err("refused");
        let fields = fields.into_iter().map(str::to_owned).collect();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "VALIDATION_FAILED".to_owned(), fields));
    }
    server.stop().await;
}
