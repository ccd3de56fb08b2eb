//! One of several replicas sends the messages of a webhook.

use std::{collections::BTreeMap, time::Duration};

use service_kit::{on_each_database, testing::TestDatabase};

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Receiver},
    start, to,
};

on_each_database!(
    two_replicas_send_each_message_once_and_in_order,
    another_replica_continues_after_the_lease_of_a_stopped_one,
);

async fn two_replicas_send_each_message_once_and_in_order(database: TestDatabase) {
    let (first, receiver) = (start(&database).await, Receiver::start().await);
    let second = first.start_replica(&database, &ALLOW_LOOPBACK).await;
    let ann = first.user();
    // SQLite: one replica makes all changes, because replicas on one file do not notify each other.
    let is_notified = !database.url().starts_with("sqlite");
    let elsewhere = ann.connected_to(if is_notified { &second } else { &first });
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    let mut titles = Vec::new();
    for number in 0..40 {
        let user = if number % 2 == 0 { &ann } else { &elsewhere };
        titles.push(user.make(&format!("Task {number}")).await.title);
    }
    let mut ids = BTreeMap::new();
    let mut received = Vec::new();
    while received.len() < titles.len() {
        let message = receiver.next().await;
        *ids.entry(message.header("webhook-id")).or_insert(0) += 1;
        received.extend(message.titles());
    }
    assert_eq!(received, titles);
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
    first.stop().await;
    second.stop().await;
}

async fn another_replica_continues_after_the_lease_of_a_stopped_one(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Nothing);
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let unanswered = receiver.next().await;
    receiver.answer_with(Answer::Status(200));
    let other = service.restart_with(&database, &ALLOW_LOOPBACK).await;
    other.manual_clock.advance(Duration::from_secs(31));
    let repeated = receiver.next().await;
    assert_eq!(repeated.header("webhook-id"), unanswered.header("webhook-id"));
    assert_eq!(repeated.json(), unanswered.json());
    other.stop().await;
}
