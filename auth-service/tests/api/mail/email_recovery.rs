//! The owner of the earlier address recovers an account from a thief who knows the password and has changed the address.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{SignUpRequest, TokenPair};
use tonic::Code;

use super::{
    FLAGS, Mailbox, NEW_PASSWORD,
    actions::{request_reset, reset_with_token},
    await_value, change_password,
    email_change::{confirm, request_change, undo},
    start, start_with, token_in,
};
use crate::{
    personal_access_tokens::{await_acceptance, created},
    support::{PASSWORD, Server, execute, query_string, start_replica_with},
};

on_each_database! {
    the_undo_link_arrives_after_too_many_notices,
    the_reset_after_an_undo_arrives_after_too_many_requested_resets,
    each_earlier_address_can_be_restored,
    a_thief_cannot_undo_a_change_to_keep_the_account,
    a_password_reset_at_an_earlier_address_makes_later_links_invalid,
    the_undo_link_is_sent_although_the_address_was_changed_again,
    an_undo_link_that_became_invalid_is_not_sent,
    nobody_else_gets_an_address_that_can_be_restored,
    an_address_is_free_when_it_can_no_longer_be_restored,
    concurrent_sign_ups_do_not_get_the_earlier_address,
    a_sign_up_does_not_reveal_that_an_address_can_be_restored,
    an_undo_ends_personal_access_tokens,
}

const OWNER: &str = "ann@example.com";
const THIEF: &str = "thief@example.net";
/// Hashes of passwords that do not fill the queue.
const CHEAP_HASHES: [&str; 2] = ["--password-memory-kib=8", "--password-passes=1"];
const SECOND: &str = "second@example.net";

/// Changes the address of an account to one that gets its first mail.
async fn change_address(server: &Server, mailbox: &Mailbox, pair: &TokenPair, new_email: &str) {
    request_change(server, pair, new_email, PASSWORD).await.expect("requested");
    let mail = mailbox.await_mail(new_email, 1).await;
    confirm(server, &token_in(&mail, "confirmEmailChange")).await.expect("confirmed");
}

async fn the_undo_link_arrives_after_too_many_notices(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    for (current, new) in [(PASSWORD, NEW_PASSWORD), (NEW_PASSWORD, PASSWORD)].into_iter().cycle().take(12) {
        change_password(&server, &pair, current, new).await.expect("changed");
    }
    mailbox.await_mail(OWNER, 11).await;
    change_address(&server, &mailbox, &pair, THIEF).await;
    let mail = mailbox.await_mail(OWNER, 12).await;
    undo(&server, &token_in(&mail, "undoEmailChange")).await.expect("undone");
    server.stop().await;
}

async fn the_reset_after_an_undo_arrives_after_too_many_requested_resets(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    change_address(&server, &mailbox, &pair, THIEF).await;
    let token = token_in(&mailbox.await_mail(OWNER, 2).await, "undoEmailChange");
    for _ in 0..10 {
        request_reset(&server, THIEF).await.expect("requested");
    }
    mailbox.await_mail(THIEF, 11).await;
    undo(&server, &token).await.expect("undone");
    let mail = mailbox.await_mail(OWNER, 3).await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    server.login(OWNER, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

/// Changes the address of an account twice, and returns the tokens that undo this.
async fn change_address_twice(server: &Server, mailbox: &Mailbox, pair: &TokenPair) -> [String; 2] {
    change_address(server, mailbox, pair, THIEF).await;
    let of_owner = token_in(&mailbox.await_mail(OWNER, 2).await, "undoEmailChange");
    change_address(server, mailbox, pair, SECOND).await;
    [of_owner, token_in(&mailbox.await_mail(THIEF, 2).await, "undoEmailChange")]
}

async fn each_earlier_address_can_be_restored(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    let [of_owner, of_thief] = change_address_twice(&server, &mailbox, &pair).await;
    undo(&server, &of_owner).await.expect("undone");
    for token in [&of_owner, &of_thief] {
        assert_refused!(undo(&server, token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    }
    let mail = mailbox.await_mail(OWNER, 3).await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    server.login(OWNER, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_thief_cannot_undo_a_change_to_keep_the_account(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    let [of_owner, of_thief] = change_address_twice(&server, &mailbox, &pair).await;
    undo(&server, &of_thief).await.expect("undone");
    let mail = mailbox.await_mail(THIEF, 3).await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    undo(&server, &of_owner).await.expect("undone");
    assert_refused!(server.login(THIEF, NEW_PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let mail = mailbox.await_mail(OWNER, 3).await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    server.login(OWNER, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_password_reset_at_an_earlier_address_makes_later_links_invalid(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    change_address(&server, &mailbox, &pair, THIEF).await;
    request_change(&server, &pair, OWNER, PASSWORD).await.expect("requested");
    let mail = mailbox.await_mail(OWNER, 3).await;
    confirm(&server, &token_in(&mail, "confirmEmailChange")).await.expect("the owner can return");
    let of_thief = token_in(&mailbox.await_mail(THIEF, 2).await, "undoEmailChange");
    request_reset(&server, OWNER).await.expect("requested");
    let mail = mailbox.await_mail(OWNER, 4).await;
    reset_with_token(&server, &token_in(&mail, "resetPassword")).await.expect("reset");
    assert_refused!(undo(&server, &of_thief).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.login(OWNER, NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

/// Changes an address twice while the mails to the owner cannot be sent.
async fn change_address_without_notice(server: &Server, mailbox: &Mailbox) {
    let pair = server.sign_up_and_login(OWNER).await;
    mailbox.await_mail(OWNER, 1).await;
    let unsent =
        "update mails set state = 'pending', next_attempt_at = created_at + 600000000 where template = 'EMAIL_CHANGED'";
    change_address(server, mailbox, &pair, THIEF).await;
    mailbox.await_mail(OWNER, 2).await;
    await_value(&server.database, "select state from mails where template = 'EMAIL_CHANGED'", "sent").await;
    execute(&server.database, unsent).await;
    change_address(server, mailbox, &pair, SECOND).await;
    mailbox.await_mail(THIEF, 2).await;
}

async fn the_undo_link_is_sent_although_the_address_was_changed_again(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    change_address_without_notice(&server, &mailbox).await;
    mailbox.delete(OWNER);
    server.manual_clock.advance(Duration::from_secs(600));
    let mail = mailbox.await_mail(OWNER, 1).await;
    undo(&server, &token_in(&mail, "undoEmailChange")).await.expect("undone");
    server.stop().await;
}

async fn an_undo_link_that_became_invalid_is_not_sent(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    change_address_without_notice(&server, &mailbox).await;
    let token = token_in(&mailbox.read(OWNER)[1], "undoEmailChange");
    undo(&server, &token).await.expect("undone");
    let state = "select state from mails where template = 'EMAIL_CHANGED' and recipient = 'ann@example.com'";
    assert_eq!(query_string(&server.database, state).await, "obsolete");
    // An administrator who sends a mail again cannot revive its link.
    execute(&server.database, "update mails set state = 'pending' where template = 'EMAIL_CHANGED'").await;
    server.manual_clock.advance(Duration::from_secs(600));
    let unsent = "select cast(count(*) as text) from mails where template = 'EMAIL_CHANGED' and state <> 'obsolete'";
    await_value(&server.database, unsent, "0").await;
    assert_refused!(undo(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.stop().await;
}

async fn nobody_else_gets_an_address_that_can_be_restored(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let ann = server.sign_up_and_login(OWNER).await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    change_address(&server, &mailbox, &ann, THIEF).await;
    let token = token_in(&mailbox.await_mail(OWNER, 2).await, "undoEmailChange");
    assert_refused!(server.sign_up(OWNER).await, AlreadyExists, "EMAIL_TAKEN", "email");
    request_change(&server, &bob, OWNER, PASSWORD).await.expect("the same response");
    let mail = mailbox.await_mail(OWNER, 3).await;
    let refused = confirm(&server, &token_in(&mail, "confirmEmailChange")).await;
    assert_refused!(refused, AlreadyExists, "EMAIL_TAKEN", "email");
    undo(&server, &token).await.expect("undone");
    server.sign_up(THIEF).await.expect("nobody can restore the address of the thief");
    server.stop().await;
}

async fn an_address_is_free_when_it_can_no_longer_be_restored(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    change_address(&server, &mailbox, &pair, THIEF).await;
    server.manual_clock.advance(Duration::from_secs(7 * 24 * 3600 - 1));
    assert_refused!(server.sign_up(OWNER).await, AlreadyExists, "EMAIL_TAKEN", "email");
    server.manual_clock.advance(Duration::from_secs(1));
    server.sign_up(OWNER).await.expect("the address is free");
    server.stop().await;
}

async fn concurrent_sign_ups_do_not_get_the_earlier_address(database: TestDatabase) {
    // Sign-ups at the replica reach the unique constraint, instead of being refused when the address is found.
    let (server, mailbox) = start_with(database, &CHEAP_HASHES).await;
    let setting = mailbox.setting();
    let flags = [&FLAGS[..], &["--mail", &setting, "--require-verified-email"], &CHEAP_HASHES].concat();
    let replica = start_replica_with(&server, server.clock.clone(), &flags).await;
    for number in 0..8 {
        let (old, new) = (format!("old{number}@example.com"), format!("new{number}@example.com"));
        let pair = server.sign_up_and_login(&old).await;
        request_change(&server, &pair, &new, PASSWORD).await.expect("requested");
        let token = token_in(&mailbox.await_mail(&new, 1).await, "confirmEmailChange");
        let sign_ups = (0..8).map(|_| {
            let (mut client, email, password) = (replica.auth(), old.clone(), PASSWORD.to_owned());
            async move { client.sign_up(SignUpRequest { email, password, display_name: String::new() }).await }
        });
        let (confirmed, signed_up) = tokio::join!(confirm(&server, &token), join_all(sign_ups));
        confirmed.expect("confirmed");
        assert!(signed_up.iter().all(Result::is_ok), "{signed_up:?}");
    }
    let accounts = "select cast(count(*) as text) from users where email like 'old%'";
    assert_eq!(query_string(&server.database, accounts).await, "0");
    replica.stop().await;
    server.stop().await;
}

async fn a_sign_up_does_not_reveal_that_an_address_can_be_restored(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    change_address(&server, &mailbox, &pair, THIEF).await;
    let token = token_in(&mailbox.await_mail(OWNER, 2).await, "undoEmailChange");
    let (server, mailbox) = start_with(server.stop().await, &["--require-verified-email"]).await;
    for email in [OWNER, THIEF, "new@example.com"] {
        assert_eq!(server.sign_up(email).await.expect("the same response").email, email);
        assert_refused!(server.login(email, NEW_PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    }
    let mails = [mailbox.await_mail(OWNER, 3).await, mailbox.await_mail(THIEF, 2).await];
    for mail in mails {
        assert!(mail.contains("\nSubject: You already have an account\n"), "{mail}");
    }
    undo(&server, &token).await.expect("undone");
    server.stop().await;
}

async fn an_undo_ends_personal_access_tokens(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OWNER).await;
    let before = created(&server, &pair.access_token, &["account.read"]).await.secret;
    change_address(&server, &mailbox, &pair, THIEF).await;
    let after = created(&server, &pair.access_token, &["account.read"]).await.secret;
    for secret in [&before, &after] {
        await_acceptance(&server, secret).await;
    }
    let token = token_in(&mailbox.await_mail(OWNER, 2).await, "undoEmailChange");
    undo(&server, &token).await.expect("undone");
    for secret in [&before, &after] {
        // The reason depends on whether the server still remembers the session of the token.
        let (code, reason, _) = refusal(&server.await_refusal(secret).await);
        assert_eq!(code, Code::Unauthenticated);
        assert!(["TOKEN_REVOKED", "TOKEN_INVALID"].contains(&&reason[..]), "{reason}");
    }
    server.stop().await;
}
