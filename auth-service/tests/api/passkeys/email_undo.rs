//! An undo of a change of the address deletes the passkeys that a thief has added.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{AuditEvent, ListMySecurityEventsRequest, TokenPair, audit_event::Kind};

use super::{
    authenticator::Authenticator,
    support::{add_passkey, log_in},
};
use crate::{
    mail::{
        self, Mailbox,
        actions::reset_with_token,
        email_change::{confirm, request_change, undo},
        token_in,
    },
    support::{PASSWORD, Server, bearer},
};

on_each_database! {
    recent_passkeys_are_deleted_and_older_ones_remain,
}

const OWNER: &str = "ann@example.com";
const THIEF: &str = "thief@example.net";

async fn add(server: &Server, pair: &TokenPair) -> (Authenticator, String) {
    let mut device = Authenticator::new();
    let added = add_passkey(server, &pair.access_token, &mut device).await.expect("added");
    (device, added.factor.expect("a factor").id)
}

async fn await_mail_about(mailbox: &Mailbox, number: usize, subject: &str) -> String {
    mailbox.await_mail(OWNER, number).await;
    let mails = mailbox.read(OWNER).into_iter();
    let found = mails.rev().find(|mail| mail.contains(&format!("\nSubject: {subject}\n")));
    found.unwrap_or_else(|| panic!("no mail about {subject:?}"))
}

async fn recent_passkeys_are_deleted_and_older_ones_remain(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let (mut of_owner, _) = add(&server, &server.sign_up_and_login(OWNER).await).await;
    server.manual_clock.advance(Duration::from_secs(7 * 24 * 3600));
    let pair = log_in(&server, &mut of_owner).await.expect("logged in");
    let (mut before, before_id) = add(&server, &pair).await;
    request_change(&server, &pair, THIEF, PASSWORD).await.expect("requested");
    confirm(&server, &token_in(&mailbox.await_mail(THIEF, 1).await, "confirmEmailChange")).await.expect("confirmed");
    let (mut after, after_id) = add(&server, &pair).await;
    let mail = await_mail_about(&mailbox, 4, "Your email address was changed").await;
    undo(&server, &token_in(&mail, "undoEmailChange")).await.expect("undone");

    for device in [&mut before, &mut after] {
        assert_refused!(log_in(&server, device).await, Unauthenticated, "PASSKEY_INVALID");
    }
    let mail = await_mail_about(&mailbox, 6, "Reset your password").await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    for device in [&mut before, &mut after] {
        assert_refused!(log_in(&server, device).await, Unauthenticated, "PASSKEY_INVALID");
    }
    let notice = await_mail_about(&mailbox, 7, "The second factors of your account were changed").await;
    assert!(!notice.contains(THIEF), "{notice}");
    let pair = log_in(&server, &mut of_owner).await.expect("the older passkey remains");
    assert_eq!(pair.user.as_ref().expect("the account").email, OWNER);
    let request = bearer(&pair.access_token, ListMySecurityEventsRequest { page_size: 100, page_token: String::new() });
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let deletions = events.iter().filter(|event| event.kind() == Kind::FactorDeleted);
    let mut deleted: Vec<_> = deletions.map(|event: &AuditEvent| &event.details["factor_id"]).collect();
    deleted.sort_unstable();
    assert_eq!(deleted, [&before_id, &after_id], "the ids are in the order of time");
    server.stop().await;
}
