//! Administrators see the mails, and have failed ones sent again.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    ListMailRequest, Mail, RetryMailRequest, TokenPair, admin_service_client::AdminServiceClient, mail::State,
};
use tonic::Status;

use super::{NEW_PASSWORD, await_value, change_password, outbox::Program, start};
use crate::support::{PASSWORD, Server, bearer, run_program};

on_each_database! {
    administrators_list_mails_and_send_failed_ones_again,
    mails_are_listed_in_pages,
}

const UNKNOWN_ID: &str = "0198c0de-0000-7000-8000-000000000000";

async fn log_in_as_admin(server: &Server) -> TokenPair {
    server.sign_up("admin@example.com").await.expect("signed up");
    let (succeeded, _, error) = run_program(&server.database, &["users", "set-role", "admin@example.com", "admin"]);
    assert!(succeeded, "{error}");
    server.login("admin@example.com", PASSWORD).await.expect("logged in")
}

async fn list(server: &Server, pair: &TokenPair, state: State) -> Result<Vec<Mail>, Status> {
    let request = ListMailRequest { state: state.into(), ..ListMailRequest::default() };
    let listed = AdminServiceClient::new(server.channel.clone()).list_mail(bearer(&pair.access_token, request)).await;
    listed.map(|listed| listed.into_inner().mails)
}

async fn retry(server: &Server, pair: &TokenPair, mail_id: &str) -> Result<Mail, Status> {
    let request = bearer(&pair.access_token, RetryMailRequest { mail_id: mail_id.to_owned() });
    AdminServiceClient::new(server.channel.clone()).retry_mail(request).await.map(tonic::Response::into_inner)
}

async fn administrators_list_mails_and_send_failed_ones_again(database: TestDatabase) {
    let program = Program::new(&database);
    program.set_broken(true);
    let server = program.start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    change_password(&server, &ann, PASSWORD, NEW_PASSWORD).await.expect("changed");
    program.await_attempts(&server.database, 2).await;
    server.manual_clock.advance(Duration::from_secs(24 * 3600));
    let failed = "select cast(count(*) as text) from mails where state = 'failed'";
    await_value(&server.database, failed, "2").await;
    let admin = log_in_as_admin(&server).await;
    let failed = list(&server, &admin, State::Failed).await.expect("listed");
    let [notice, verification] = &failed[..] else { panic!("{failed:#?}") };
    assert_eq!([&notice.template[..], &verification.template], ["PASSWORD_CHANGED", "VERIFY_EMAIL"]);
    assert_eq!((&notice.recipient[..], notice.attempts), ("ann@example.com", 2));
    assert!(notice.last_error.ends_with("exit status: 75") && notice.next_attempt_time.is_none(), "{notice:?}");

    program.set_broken(false);
    for mail in [notice, verification] {
        assert_eq!(retry(&server, &admin, &mail.id).await.expect("retried").state(), State::Pending);
    }
    let sent = "select state from mails where template = 'PASSWORD_CHANGED'";
    await_value(&server.database, sent, "sent").await;
    assert_refused!(retry(&server, &admin, &notice.id).await, NotFound, "MAIL_NOT_FOUND");
    assert_refused!(retry(&server, &admin, UNKNOWN_ID).await, NotFound, "MAIL_NOT_FOUND");
    assert_refused!(retry(&server, &admin, "x").await, InvalidArgument, "VALIDATION_FAILED", "mail_id");
    let expired =
        "select state || ': ' || last_error from mails where template = 'VERIFY_EMAIL' and recipient like 'ann%'";
    await_value(&server.database, expired, "failed: it was not sent before its link expired").await;
    let ann = server.login("ann@example.com", NEW_PASSWORD).await.expect("logged in");
    assert_refused!(list(&server, &ann, State::Unspecified).await, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(retry(&server, &ann, &notice.id).await, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}

async fn mails_are_listed_in_pages(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let admin = log_in_as_admin(&server).await;
    for number in 0..4 {
        server.sign_up(&format!("user{number}@example.com")).await.expect("signed up");
    }
    mailbox.await_mail("user3@example.com", 1).await;
    let mut client = AdminServiceClient::new(server.channel.clone());
    let (mut recipients, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListMailRequest { page_size: 2, page_token, ..ListMailRequest::default() };
        let page = client.list_mail(bearer(&admin.access_token, request)).await.expect("listed").into_inner();
        recipients.extend(page.mails.into_iter().map(|mail| mail.recipient));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let users = ["user3", "user2", "user1", "user0", "admin"].map(|user| format!("{user}@example.com"));
    assert_eq!(recipients, users);
    let unknown = ListMailRequest { state: 99, ..ListMailRequest::default() };
    let refused = client.list_mail(bearer(&admin.access_token, unknown)).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "state");
    server.stop().await;
}
