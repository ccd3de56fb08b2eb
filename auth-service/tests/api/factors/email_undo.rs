//! An undo of a change of the address deletes the authenticator apps and recovery codes that a thief has added.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    ListMySecurityEventsRequest, RegenerateRecoveryCodesRequest, TokenPair, audit_event::Kind, login_challenge::Method,
};

use super::{add_totp, challenge, client, code, complete, create_totp, enroll, recovery, totp};
use crate::{
    mail::{
        self, Mailbox, NEW_PASSWORD,
        actions::reset_with_token,
        email_change::{confirm, request_change, undo},
        token_in,
    },
    support::{PASSWORD, Server, bearer, query_string},
};

on_each_database! {
    a_recent_authenticator_app_and_its_recovery_codes_are_deleted,
    recently_replaced_recovery_codes_are_deleted_and_an_older_app_remains,
    older_recovery_codes_remain,
}

const OWNER: &str = "ann@example.com";
const THIEF: &str = "thief@example.net";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

async fn mail_about(mailbox: &Mailbox, subject: &str) -> String {
    let subject = format!("\nSubject: {subject}\n");
    let is_there = || mailbox.read(OWNER).iter().any(|mail| mail.contains(&subject));
    mail::await_that(&subject, is_there).await;
    mailbox.read(OWNER).into_iter().rfind(|mail| mail.contains(&subject)).expect("a mail")
}

/// Changes the address as a thief does, undoes that as the owner, and resets the password.
async fn change_and_undo(server: &Server, mailbox: &Mailbox, pair: &TokenPair) {
    request_change(server, pair, THIEF, PASSWORD).await.expect("requested");
    confirm(server, &token_in(&mailbox.await_mail(THIEF, 1).await, "confirmEmailChange")).await.expect("confirmed");
    let mail = mail_about(mailbox, "Your email address was changed").await;
    undo(server, &token_in(&mail, "undoEmailChange")).await.expect("undone");
    let mail = mail_about(mailbox, "Reset your password").await;
    reset_with_token(server, &token_in(&mail, "resetPassword")).await.expect("reset");
}

/// Logs in with an authenticator app a week later.
async fn log_in_later(server: &Server, secret: &str) -> TokenPair {
    server.manual_clock.advance(WEEK);
    let token = challenge(server, OWNER).await.token;
    complete(server, &token, totp(&code(server, secret))).await.expect("logged in")
}

async fn a_recent_authenticator_app_and_its_recovery_codes_are_deleted(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let pair = enroll(&server, OWNER).await.pair;
    create_totp(&server, &pair.access_token).await.expect("a secret that is not confirmed");
    change_and_undo(&server, &mailbox, &pair).await;
    let pair = server.login(OWNER, NEW_PASSWORD).await.expect("logged in");
    assert!(pair.challenge.is_none(), "the password suffices");
    let rows = "select cast((select count(*) from factors) + (select count(*) from recovery_codes) as text)";
    assert_eq!(query_string(&server.database, rows).await, "0");
    server.stop().await;
}

async fn recently_replaced_recovery_codes_are_deleted_and_an_older_app_remains(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let ann = enroll(&server, OWNER).await;
    let pair = log_in_later(&server, &ann.secret).await;
    let request = bearer(&pair.access_token, RegenerateRecoveryCodesRequest {});
    client(&server).regenerate_recovery_codes(request).await.expect("replaced");
    change_and_undo(&server, &mailbox, &pair).await;
    server.manual_clock.advance(super::STEP);
    let pair = server.login(OWNER, NEW_PASSWORD).await.expect("the password is correct");
    let challenge = pair.challenge.expect("a challenge");
    assert_eq!(challenge.methods, [i32::from(Method::Totp)], "there are no recovery codes");
    let code = code(&server, &ann.secret);
    let pair = complete(&server, &challenge.token, totp(&code)).await.expect("logged in");
    let request = bearer(&pair.access_token, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let undone = events.iter().find(|event| event.kind() == Kind::EmailChangeUndone).expect("an event");
    assert_eq!(undone.details["deleted_recovery_codes"], "10");
    server.stop().await;
}

async fn older_recovery_codes_remain(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let ann = enroll(&server, OWNER).await;
    let pair = log_in_later(&server, &ann.secret).await;
    let added = add_totp(&server, pair).await;
    change_and_undo(&server, &mailbox, &added.pair).await;
    let pair = server.login(OWNER, NEW_PASSWORD).await.expect("the password is correct");
    let token = pair.challenge.expect("a challenge").token;
    let refused = complete(&server, &token, totp(&code(&server, &added.secret))).await;
    assert_refused!(refused, Unauthenticated, "CODE_INVALID");
    complete(&server, &token, recovery(&ann.recovery_codes[0])).await.expect("logged in");
    server.stop().await;
}
