//! Changes of the address: the new one confirms, and the earlier one can undo.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    ChangeEmailRequest, ConfirmEmailChangeRequest, ResetPasswordRequest, TokenPair, UndoEmailChangeRequest,
};
use tonic::Status;

use super::{FLAGS, NEW_PASSWORD, await_value, change_password, code_in, start, token_in};
use crate::support::{PASSWORD, Server, bearer, execute};

on_each_database! {
    the_address_changes_when_the_new_one_is_confirmed,
    a_code_confirms_the_change,
    a_change_requires_the_current_password_and_another_address,
    a_later_request_makes_an_earlier_one_invalid,
    a_replaced_request_is_not_sent,
    the_earlier_address_can_undo_a_change,
    an_undo_is_possible_for_a_week,
    a_password_change_makes_an_unconfirmed_change_invalid,
    an_address_of_another_account_is_not_revealed_before_it_is_confirmed,
    two_accounts_cannot_change_to_the_same_address,
}

const OLD: &str = "ann@example.com";
const NEW: &str = "anne@example.com";

pub async fn request_change(server: &Server, pair: &TokenPair, new_email: &str, password: &str) -> Result<(), Status> {
    let request = ChangeEmailRequest { new_email: new_email.to_owned(), current_password: password.to_owned() };
    server.account().change_email(bearer(&pair.access_token, request)).await.map(|_| ())
}

pub async fn confirm(server: &Server, token: &str) -> Result<(), Status> {
    let request = ConfirmEmailChangeRequest { token: token.to_owned(), ..ConfirmEmailChangeRequest::default() };
    server.auth().confirm_email_change(request).await.map(|_| ())
}

pub async fn undo(server: &Server, token: &str) -> Result<(), Status> {
    server.auth().undo_email_change(UndoEmailChangeRequest { token: token.to_owned() }).await.map(|_| ())
}

async fn the_address_changes_when_the_new_one_is_confirmed(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    let mail = mailbox.await_mail(NEW, 1).await;
    assert!(!mail.contains(OLD), "the owner of the new address may be a stranger: {mail}");
    assert_eq!(server.get_me(&pair.access_token).await.expect("the account").email, OLD);
    let token = token_in(&mail, "confirmEmailChange");
    confirm(&server, &token).await.expect("confirmed");
    let user = server.get_me(&pair.access_token).await.expect("the session continues");
    assert_eq!((&user.email[..], user.email_verified), (NEW, true));
    assert_refused!(server.login(OLD, PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    server.login(NEW, PASSWORD).await.expect("logged in");
    let notice = mailbox.await_mail(OLD, 2).await;
    assert!(notice.contains("\nSubject: Your email address was changed\n"), "{notice}");
    assert_refused!(confirm(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    assert_refused!(server.sign_up(OLD).await, AlreadyExists, "EMAIL_TAKEN", "email");
    server.stop().await;
}

async fn a_code_confirms_the_change(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    let code = code_in(&mailbox.await_mail(NEW, 1).await);
    let confirm = async |email: &str| {
        let (token, email, code) = (String::new(), email.to_owned(), code.clone());
        server.auth().confirm_email_change(ConfirmEmailChangeRequest { token, email, code }).await
    };
    assert_refused!(confirm(NEW).await, Unauthenticated, "CODE_INVALID");
    confirm(OLD).await.expect("confirmed");
    assert_eq!(server.get_me(&pair.access_token).await.expect("the account").email, NEW);
    server.stop().await;
}

async fn a_change_requires_the_current_password_and_another_address(database: TestDatabase) {
    let (server, _) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    let wrong = request_change(&server, &pair, NEW, "another horse").await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let same = request_change(&server, &pair, "ANN@example.com", PASSWORD).await;
    assert_refused!(same, InvalidArgument, "VALIDATION_FAILED", "new_email");
    let invalid = request_change(&server, &pair, "a@b\r\nBcc: c@d", "").await;
    assert_refused!(invalid, InvalidArgument, "VALIDATION_FAILED", "current_password", "new_email");
    server.stop().await;
}

async fn a_later_request_makes_an_earlier_one_invalid(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, "mistyped@example.net", PASSWORD).await.expect("requested");
    let of_stranger = token_in(&mailbox.await_mail("mistyped@example.net", 1).await, "confirmEmailChange");
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    let token = token_in(&mailbox.await_mail(NEW, 1).await, "confirmEmailChange");
    assert_refused!(confirm(&server, &of_stranger).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    assert_eq!(server.get_me(&pair.access_token).await.expect("the account").email, OLD);
    confirm(&server, &token).await.expect("confirmed");
    assert_eq!(server.get_me(&pair.access_token).await.expect("the account").email, NEW);
    assert_refused!(confirm(&server, &of_stranger).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.stop().await;
}

async fn a_replaced_request_is_not_sent(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--mail", "command:/bin/false"]].concat();
    let server = Server::start_with(database, &flags).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, "mistyped@example.net", PASSWORD).await.expect("requested");
    let failed = "select cast(count(*) as text) from mails where last_error <> '' and recipient like 'mistyped%'";
    await_value(&server.database, failed, "1").await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    let database = server.stop().await;
    execute(&database, "update mails set next_attempt_at = 0").await;
    let (server, mailbox) = start(database).await;
    mailbox.await_mail(NEW, 1).await;
    let state = "select state from mails where recipient = 'mistyped@example.net'";
    await_value(&server.database, state, "obsolete").await;
    assert!(mailbox.read("mistyped@example.net").is_empty());
    server.stop().await;
}

async fn the_earlier_address_can_undo_a_change(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    confirm(&server, &token_in(&mailbox.await_mail(NEW, 1).await, "confirmEmailChange")).await.expect("confirmed");
    let token = token_in(&mailbox.await_mail(OLD, 2).await, "undoEmailChange");
    undo(&server, &token).await.expect("undone");
    let refused: Result<(), _> = Err(server.await_refusal(&pair.access_token).await);
    assert_refused!(refused, Unauthenticated, "TOKEN_REVOKED");
    for email in [OLD, NEW] {
        assert_refused!(server.login(email, PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    }
    let reset = mailbox.await_mail(OLD, 3).await;
    let (token_of_reset, new_password) = (token_in(&reset, "resetPassword"), NEW_PASSWORD.to_owned());
    let request = ResetPasswordRequest { token: token_of_reset, new_password, ..ResetPasswordRequest::default() };
    server.auth().reset_password(request).await.expect("reset");
    assert_eq!(server.login(OLD, NEW_PASSWORD).await.expect("logged in").user.expect("the account").email, OLD);
    assert_refused!(undo(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.stop().await;
}

async fn an_undo_is_possible_for_a_week(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    confirm(&server, &token_in(&mailbox.await_mail(NEW, 1).await, "confirmEmailChange")).await.expect("confirmed");
    let token = token_in(&mailbox.await_mail(OLD, 2).await, "undoEmailChange");
    server.manual_clock.advance(Duration::from_secs(7 * 24 * 3600));
    assert_refused!(undo(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.stop().await;
}

async fn a_password_change_makes_an_unconfirmed_change_invalid(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
    let token = token_in(&mailbox.await_mail(NEW, 1).await, "confirmEmailChange");
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    assert_refused!(confirm(&server, &token).await, InvalidArgument, "ACTION_TOKEN_INVALID", "token");
    server.stop().await;
}

async fn an_address_of_another_account_is_not_revealed_before_it_is_confirmed(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login(OLD).await;
    server.sign_up(NEW).await.expect("signed up");
    request_change(&server, &pair, NEW, PASSWORD).await.expect("the same response");
    let token = token_in(&mailbox.await_mail(NEW, 2).await, "confirmEmailChange");
    assert_refused!(confirm(&server, &token).await, AlreadyExists, "EMAIL_TAKEN", "email");
    assert_eq!(server.get_me(&pair.access_token).await.expect("the account").email, OLD);
    server.stop().await;
}

async fn two_accounts_cannot_change_to_the_same_address(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let mut tokens = Vec::new();
    for (number, email) in [OLD, "bob@example.com"].into_iter().enumerate() {
        let pair = server.sign_up_and_login(email).await;
        request_change(&server, &pair, NEW, PASSWORD).await.expect("requested");
        tokens.push(token_in(&mailbox.await_mail(NEW, number + 1).await, "confirmEmailChange"));
    }
    let outcomes: [_; 2] = tokio::join!(confirm(&server, &tokens[0]), confirm(&server, &tokens[1])).into();
    let refused: Vec<_> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(|status| refusal(status).1).collect();
    assert_eq!(refused, ["EMAIL_TAKEN"]);
    server.stop().await;
}
