//! Signature counters reveal copies of a passkey.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ListMySecurityEventsRequest, TokenPair, audit_event::Kind};

use super::{
    authenticator::Authenticator,
    support::{add_passkey, finish, log_in, login_options, start},
};
use crate::{
    mail,
    support::{Server, bearer},
};

on_each_database! {
    counter_that_went_back_is_refused_and_reported,
    counter_that_stopped_is_accepted_and_reported,
    repeated_response_is_not_suspected,
    owner_is_informed_once_about_each_suspected_copy,
}

/// Returns whether each suspected copy was accepted, the last one first.
async fn suspicions(server: &Server, pair: &TokenPair) -> Vec<String> {
    let request = ListMySecurityEventsRequest { page_size: 100, page_token: String::new() };
    let events = server.account().list_my_security_events(bearer(&pair.access_token, request)).await;
    let events = events.expect("listed").into_inner().events;
    let suspected = events.iter().filter(|event| event.kind() == Kind::PasskeyCloneSuspected);
    suspected.map(|event| event.details["accepted"].clone()).collect()
}

async fn counter_that_went_back_is_refused_and_reported(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    device.sign_count = 7;
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    log_in(&server, &mut device).await.expect("the counter has increased");
    // A copy from before that login.
    device.sign_count = 7;
    assert_refused!(log_in(&server, &mut device).await, Unauthenticated, "PASSKEY_INVALID");
    assert_eq!(suspicions(&server, &pair).await, ["false"]);
    log_in(&server, &mut device).await.expect("the counter has increased");
    server.stop().await;
}

async fn counter_that_stopped_is_accepted_and_reported(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    device.sign_count = 7;
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    device.sign_count = 0;
    for _ in 0..2 {
        log_in(&server, &mut device).await.expect("accepted");
    }
    assert_eq!(suspicions(&server, &pair).await, ["true"]);
    server.stop().await;
}

async fn repeated_response_is_not_suspected(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    device.sign_count = 7;
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let response = device.get(&login_options(&server).await);
    finish(&server, response.clone()).await.expect("logged in");
    assert_refused!(finish(&server, response).await, Unauthenticated, "PASSKEY_INVALID");
    assert!(suspicions(&server, &pair).await.is_empty());
    server.stop().await;
}

async fn owner_is_informed_once_about_each_suspected_copy(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let email = "ann@example.com";
    let pair = server.sign_up_and_login(email).await;
    let mut device = Authenticator::new();
    device.sign_count = 7;
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    device.sign_count = 2;
    let refused = device.get(&login_options(&server).await);
    for _ in 0..2 {
        assert_refused!(finish(&server, refused.clone()).await, Unauthenticated, "PASSKEY_INVALID");
    }
    // Earlier mails are about the address and the new passkey.
    let mail = mailbox.await_mail(email, 3).await;
    assert!(mail.contains("\nSubject: A passkey of your account may have been copied\n"), "{mail}");
    device.sign_count = 0;
    log_in(&server, &mut device).await.expect("accepted");
    mailbox.await_mail(email, 4).await;
    assert_eq!(suspicions(&server, &pair).await, ["true", "false"]);
    server.stop().await;
}
