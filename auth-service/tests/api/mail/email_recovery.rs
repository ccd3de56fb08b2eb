//! The owner of the earlier address recovers an account from a thief who knows the password and has changed the address.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::TokenPair;

use super::{
    Mailbox, NEW_PASSWORD,
    actions::{request_reset, reset_with_token},
    change_password,
    email_change::{confirm, request_change, undo},
    start, token_in,
};
use crate::support::{PASSWORD, Server};

on_each_database! {
    the_undo_link_arrives_after_too_many_notices,
    the_reset_after_an_undo_arrives_after_too_many_requested_resets,
}

const OWNER: &str = "ann@example.com";
const THIEF: &str = "thief@example.net";

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
