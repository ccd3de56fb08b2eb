//! A login to an account with a second factor needs the password and the factor.

use std::time::Duration;

use serde_json::json;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, CompleteLoginRequest, ListMySecurityEventsRequest, ListSessionsRequest, LoginRequest, TokenPair,
    audit_event::Kind, login_challenge::Method,
};
use tonic::Status;

use super::{STEP, challenge, code, code_at, complete, enroll, recovery, totp, wrong_code};
use crate::{
    authentication::claims,
    mail::{
        self, Mailbox, NEW_PASSWORD,
        actions::{request_reset, reset_with_token},
        change_password, token_in,
    },
    support::{PASSWORD, Server, bearer, execute},
};

on_each_database! {
    a_login_is_completed_with_a_code,
    a_login_is_completed_with_a_recovery_code,
    programs_log_in_with_a_code_in_one_call,
    codes_of_the_past_and_of_the_future_are_refused,
    a_wrong_password_is_refused_as_for_any_account,
    a_challenge_expires_after_five_minutes,
    a_new_password_invalidates_challenges,
    challenges_of_disabled_accounts_are_invalid,
    invalid_requests_name_the_field,
    wrong_codes_count_as_wrong_passwords_and_a_correct_password_does_not_reset_them,
    a_password_reset_does_not_remove_factors,
    a_password_reset_resets_the_count_of_wrong_codes,
}

/// How wrong passwords are limited, without a limit for the address of the test.
const THROTTLED: &[&str] = &["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];

async fn login_with(server: &Server, password: &str, totp_code: &str) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        email: "ann@example.com".to_owned(),
        password: password.to_owned(),
        session_label: "script".to_owned(),
        totp_code: totp_code.to_owned(),
    };
    server.auth().login(request).await.map(tonic::Response::into_inner)
}

async fn last_events(server: &Server, access_token: &str, count: usize) -> Vec<AuditEvent> {
    let request = bearer(access_token, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    events.into_iter().take(count).collect()
}

async fn a_login_is_completed_with_a_code(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let request = LoginRequest {
        email: "ann@example.com".to_owned(),
        password: PASSWORD.to_owned(),
        session_label: "Ann's phone".to_owned(),
        ..LoginRequest::default()
    };
    let login = server.auth().login(request).await.expect("the password is correct").into_inner();
    let login = login.challenge.expect("a challenge");
    assert_eq!(login.methods().collect::<Vec<_>>(), [Method::Totp, Method::RecoveryCode]);
    let expire_time = login.expire_time.expect("set").seconds;
    assert_eq!(expire_time, server.clock.now().as_seconds() + 300);

    let pair = complete(&server, &login.token, totp(&code(&server, &ann.secret))).await.expect("logged in");
    assert!(pair.challenge.is_none());
    let claims = claims(&pair.access_token);
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(claims["auth_time"], json!(server.clock.now().as_seconds()));
    let sessions = server.account().list_sessions(bearer(&pair.access_token, ListSessionsRequest {})).await;
    let sessions = sessions.expect("listed").into_inner().sessions;
    let session = sessions.iter().find(|session| session.current).expect("the current session");
    assert_eq!(session.label, "Ann's phone");
    let refreshed = server.refresh(&pair.refresh_token).await.expect("refreshed");
    assert_eq!(crate::authentication::claims(&refreshed.access_token)["amr"], json!(["pwd", "otp", "mfa"]));
    let event = &last_events(&server, &pair.access_token, 1).await[0];
    assert_eq!((event.kind(), &event.details["factor"][..]), (Kind::Login, "TOTP"));
    server.stop().await;
}

async fn a_login_is_completed_with_a_recovery_code(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let typed = ann.recovery_codes[3].to_lowercase().replace('-', " ");
    let token = challenge(&server, "ann@example.com").await.token;
    complete(&server, &token, recovery(&typed)).await.expect("logged in");
    let token = challenge(&server, "ann@example.com").await.token;
    assert_refused!(complete(&server, &token, recovery(&typed)).await, Unauthenticated, "CODE_INVALID");
    for code in ann.recovery_codes.iter().enumerate().filter(|(index, _)| *index != 3).map(|(_, code)| code) {
        let token = challenge(&server, "ann@example.com").await.token;
        complete(&server, &token, recovery(code)).await.expect("logged in");
    }
    let methods: Vec<_> = challenge(&server, "ann@example.com").await.methods().collect();
    assert_eq!(methods, [Method::Totp], "all recovery codes were used");
    server.stop().await;
}

async fn programs_log_in_with_a_code_in_one_call(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let shown = code(&server, &ann.secret);
    let pair = login_with(&server, PASSWORD, &shown).await.expect("logged in");
    assert_eq!(claims(&pair.access_token)["amr"], json!(["pwd", "otp", "mfa"]));
    assert_refused!(login_with(&server, PASSWORD, &shown).await, Unauthenticated, "CODE_INVALID");
    let outcome = login_with(&server, PASSWORD, "12345").await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "totp_code");
    server.stop().await;
}

async fn codes_of_the_past_and_of_the_future_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    // So that the codes of the past are later than that of the confirmation.
    server.manual_clock.advance(10 * STEP);
    let now = server.clock.now();
    for (name, at) in [("too early", now - 2 * STEP), ("too late", now + 2 * STEP), ("far off", now + 99 * STEP)] {
        let token = challenge(&server, "ann@example.com").await.token;
        let outcome = complete(&server, &token, totp(&code_at(&ann.secret, at))).await;
        assert!(outcome.is_err(), "{name}");
        assert_refused!(outcome, Unauthenticated, "CODE_INVALID");
    }
    for at in [now - STEP, now, now + STEP] {
        let token = challenge(&server, "ann@example.com").await.token;
        complete(&server, &token, totp(&code_at(&ann.secret, at))).await.expect("about now, in the order of time");
    }
    // After a code of the future, those before it are refused.
    let token = challenge(&server, "ann@example.com").await.token;
    let outcome = complete(&server, &token, totp(&code_at(&ann.secret, now))).await;
    assert_refused!(outcome, Unauthenticated, "CODE_INVALID");
    server.stop().await;
}

async fn a_wrong_password_is_refused_as_for_any_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let wrong = "wrong horse battery staple";
    for totp_code in ["", &code(&server, &ann.secret)] {
        assert_refused!(login_with(&server, wrong, totp_code).await, Unauthenticated, "CREDENTIALS_INVALID");
    }
    assert_refused!(server.login("eve@example.com", wrong).await, Unauthenticated, "CREDENTIALS_INVALID");
    server.stop().await;
}

async fn a_challenge_expires_after_five_minutes(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let token = challenge(&server, "ann@example.com").await.token;
    server.manual_clock.advance(Duration::from_secs(300));
    let outcome = complete(&server, &token, totp(&code(&server, &ann.secret))).await;
    assert_refused!(outcome, Unauthenticated, "CHALLENGE_INVALID");
    server.stop().await;
}

async fn a_new_password_invalidates_challenges(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let token = challenge(&server, "ann@example.com").await.token;
    change_password(&server, &ann.pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let outcome = complete(&server, &token, totp(&code(&server, &ann.secret))).await;
    assert_refused!(outcome, Unauthenticated, "CHALLENGE_INVALID");
    server.stop().await;
}

async fn challenges_of_disabled_accounts_are_invalid(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let token = challenge(&server, "ann@example.com").await.token;
    execute(&server.database, "update users set disabled = true").await;
    let outcome = complete(&server, &token, totp(&code(&server, &ann.secret))).await;
    assert_refused!(outcome, Unauthenticated, "CHALLENGE_INVALID");
    server.stop().await;
}

async fn invalid_requests_name_the_field(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = "x".repeat(5000);
    for (challenge_token, factor, field) in [
        (&token[..], Some(totp("12345x")), "totp_code"),
        (&token, Some(recovery("AAAA")), "recovery_code"),
        (&token, None, "totp_code"),
        ("", Some(totp("123456")), "challenge_token"),
    ] {
        let request = CompleteLoginRequest { challenge_token: challenge_token.to_owned(), factor };
        let outcome = server.auth().complete_login(request).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    for token in ["x", &token, &"A".repeat(100)] {
        assert_refused!(complete(&server, token, totp("123456")).await, Unauthenticated, "CHALLENGE_INVALID");
    }
    server.stop().await;
}

async fn wrong_codes_count_as_wrong_passwords_and_a_correct_password_does_not_reset_them(database: TestDatabase) {
    let server = Server::start_with(database, THROTTLED).await;
    let ann = enroll(&server, "ann@example.com").await;
    for failures in 1..=3 {
        let token = challenge(&server, "ann@example.com").await.token;
        let wrong = wrong_code(&server, &ann.secret);
        assert_refused!(complete(&server, &token, totp(&wrong)).await, Unauthenticated, "CODE_INVALID");
        // The delay is 1 s after the first wrong code, and 3 s after the third, although the password was correct.
        let outcome = server.login("ann@example.com", PASSWORD).await;
        assert_refused!(outcome, ResourceExhausted, "RATE_LIMITED");
        server.manual_clock.advance(Duration::from_secs(1));
        let is_delayed = server.login("ann@example.com", PASSWORD).await.is_err();
        assert_eq!(is_delayed, failures == 3, "{failures}");
    }
    server.manual_clock.advance(Duration::from_secs(30));
    let token = challenge(&server, "ann@example.com").await.token;
    let pair = complete(&server, &token, totp(&code(&server, &ann.secret))).await.expect("logged in");
    let events = last_events(&server, &pair.access_token, 2).await;
    assert_eq!((events[0].kind(), events[1].kind()), (Kind::Login, Kind::LoginFailed));
    // A completed login resets the count.
    let token = challenge(&server, "ann@example.com").await.token;
    let wrong = wrong_code(&server, &ann.secret);
    assert_refused!(complete(&server, &token, totp(&wrong)).await, Unauthenticated, "CODE_INVALID");
    server.manual_clock.advance(Duration::from_secs(1));
    challenge(&server, "ann@example.com").await;
    server.stop().await;
}

async fn a_password_reset_does_not_remove_factors(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    reset_password(&server, &mailbox, "ann@example.com").await;
    let login = server.login("ann@example.com", NEW_PASSWORD).await.expect("the password is correct");
    let token = login.challenge.expect("a challenge").token;
    complete(&server, &token, totp(&code(&server, &ann.secret))).await.expect("logged in");
    server.stop().await;
}

async fn a_password_reset_resets_the_count_of_wrong_codes(database: TestDatabase) {
    let (server, mailbox) = mail::start_with(database, THROTTLED).await;
    let ann = enroll(&server, "ann@example.com").await;
    let wrong = wrong_code(&server, &ann.secret);
    for _ in 0..3 {
        let token = challenge(&server, "ann@example.com").await.token;
        assert_refused!(complete(&server, &token, totp(&wrong)).await, Unauthenticated, "CODE_INVALID");
        server.manual_clock.advance(Duration::from_secs(3));
    }
    let token = challenge(&server, "ann@example.com").await.token;
    assert_refused!(complete(&server, &token, totp(&wrong)).await, Unauthenticated, "CODE_INVALID");
    assert_refused!(complete(&server, &token, totp(&wrong)).await, ResourceExhausted, "RATE_LIMITED");
    reset_password(&server, &mailbox, "ann@example.com").await;
    let login = server.login("ann@example.com", NEW_PASSWORD).await.expect("not delayed");
    let token = login.challenge.expect("a challenge").token;
    assert_refused!(complete(&server, &token, totp(&wrong)).await, Unauthenticated, "CODE_INVALID");
    // The delay is that after the first wrong code again.
    server.manual_clock.advance(Duration::from_secs(1));
    complete(&server, &token, totp(&code(&server, &ann.secret))).await.expect("logged in");
    server.stop().await;
}

/// Resets the password of an account with the link in a mail, which follows those that the account has received.
async fn reset_password(server: &Server, mailbox: &Mailbox, email: &str) {
    request_reset(server, email).await.expect("requested");
    // Earlier mails are about the address and the new factor.
    let token = token_in(&mailbox.await_mail(email, 3).await, "resetPassword");
    reset_with_token(server, &token).await.expect("reset");
}
