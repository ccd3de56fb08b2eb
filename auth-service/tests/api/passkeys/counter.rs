//! Signature counters reveal copies of a passkey.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ListMySecurityEventsRequest, TokenPair, audit_event::Kind};

use super::{
    authenticator::Authenticator,
    support::{add_passkey, log_in, start},
};
use crate::support::{Server, bearer};

on_each_database! {
    counter_that_went_back_is_refused_and_reported,
    counter_that_stopped_is_accepted_and_reported,
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
