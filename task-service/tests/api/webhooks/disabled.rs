//! The webhooks of a disabled account send nothing until the account is enabled, and then lose no change.

use std::time::Duration;

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Webhook, webhook::State};

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Receiver},
    replicas::Interrupted,
    restored::restore,
    start, to,
};
use crate::{
    account_cleanup::{user_with_task, wait_until_empty},
    support::{Service, User},
};

on_each_database!(
    a_disabled_account_gets_all_messages_when_it_is_enabled,
    no_replica_sends_messages_of_a_disabled_account_also_after_a_restart,
    a_failed_message_of_a_disabled_account_is_not_sent_again,
    an_attempt_in_progress_is_the_last_one_of_a_disabled_account,
    a_webhook_that_was_changed_while_the_account_was_disabled_waits,
    a_paused_webhook_stays_paused_when_the_account_is_enabled,
    a_restored_list_of_accounts_enables_those_that_it_does_not_disable,
    a_restored_database_sends_nothing_of_a_disabled_account,
);

/// Waits until the changes of accounts so far are stored: then the tasks of an account that was deleted later disappear.
async fn await_user_changes(service: &Service) {
    let last = user_with_task(service).await;
    service.feed.delete([last.id]);
    wait_until_empty(&last).await;
}

async fn disable(service: &Service, user: &User) {
    service.feed.disable([user.id]);
    await_user_changes(service).await;
}

/// Waits until another account has received messages, and the queue has therefore been read since the call.
async fn await_deliveries(service: &Service) {
    let (bob, receiver) = (service.user(), Receiver::start().await);
    bob.create_webhook(to(&receiver.url())).await.expect("created");
    for title in ["Buy rye", "Buy oats"] {
        bob.make(title).await;
        assert_eq!(receiver.titles(1).await, [title]);
    }
}

/// Checks that the receiver gets nothing although the queue is read.
async fn assert_idle(service: &Service, receiver: &Receiver) {
    await_deliveries(service).await;
    assert!(receiver.is_idle().await);
}

/// Enables an account, and checks that the next message has these tasks, all together.
async fn assert_enabling_sends(service: &Service, user: &User, receiver: &Receiver, titles: &[&str]) {
    assert!(receiver.is_idle().await);
    service.feed.enable([user.id]);
    assert_eq!(receiver.next().await.titles(), titles);
}

async fn a_disabled_account_gets_all_messages_when_it_is_enabled(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);

    // The feed of this test revokes no session, so the user can still create tasks.
    disable(&service, &ann).await;
    ann.make("Buy tea").await;
    assert_idle(&service, &receiver).await;
    ann.make("Call Bob").await;
    assert_idle(&service, &receiver).await;
    let disabled = ann.get_webhook(&webhook.id).await.expect("it exists");
    assert_eq!((disabled.state(), &disabled.etag), (State::Active, &webhook.etag), "the webhook is the same");

    assert_enabling_sends(&service, &ann, &receiver, &["Buy tea", "Call Bob"]).await;
    ann.make("Buy bread").await;
    assert_eq!(receiver.next().await.titles(), ["Buy bread"]);
    service.stop().await;
}

async fn no_replica_sends_messages_of_a_disabled_account_also_after_a_restart(database: TestDatabase) {
    let (first, receiver) = (start(&database).await, Receiver::start().await);
    let second = first.start_replica(&database, &ALLOW_LOOPBACK).await;
    let ann = first.user();
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    disable(&first, &ann).await;
    ann.make("Buy milk").await;
    ann.connected_to(&second).make("Buy tea").await;
    assert_idle(&first, &receiver).await;
    assert_idle(&second, &receiver).await;

    second.stop().await;
    let service = first.restart_with(&database, &ALLOW_LOOPBACK).await;
    assert_idle(&service, &receiver).await;
    let ann = ann.connected_to(&service);
    ann.make("Call Bob").await;
    assert_idle(&service, &receiver).await;
    assert_enabling_sends(&service, &ann, &receiver, &["Buy milk", "Buy tea", "Call Bob"]).await;
    service.stop().await;
}

async fn a_failed_message_of_a_disabled_account_is_not_sent_again(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let failing = ann.failing_webhook(&webhook.id).await;
    assert_eq!(receiver.next().await.titles(), ["Buy milk"]);

    disable(&service, &ann).await;
    // The next attempt is due.
    service.manual_clock.advance(Duration::from_secs(60));
    assert_idle(&service, &receiver).await;
    let disabled = ann.get_webhook(&webhook.id).await.expect("it exists");
    assert_eq!(disabled.failing_since_time, failing.failing_since_time);
    receiver.answer_with(Answer::Status(200));
    assert_enabling_sends(&service, &ann, &receiver, &["Buy milk"]).await;
    service.stop().await;
}

async fn an_attempt_in_progress_is_the_last_one_of_a_disabled_account(database: TestDatabase) {
    let receiver = Receiver::start().await;
    // One more than a message has.
    let tasks: Vec<_> = (0..26).map(|number| format!("Task {number}")).collect();
    let titles: Vec<_> = tasks.iter().map(String::as_str).collect();
    let Interrupted { service, ann, end, .. } = Interrupted::start_with(&database, &receiver, &titles).await;
    disable(&service, &ann).await;
    drop(end);
    assert_eq!(receiver.next().await.titles(), titles[..25]);
    assert_idle(&service, &receiver).await;
    assert_enabling_sends(&service, &ann, &receiver, &titles[25..]).await;
    service.stop().await;
}

async fn a_webhook_that_was_changed_while_the_account_was_disabled_waits(database: TestDatabase) {
    let (service, receiver, other) = (start(&database).await, Receiver::start().await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    disable(&service, &ann).await;
    // Calls that were in progress may still change webhooks.
    ann.redeliver(&webhook.id, "").await.expect("redelivered");
    ann.create_webhook(to(&other.url())).await.expect("created");
    ann.make("Buy tea").await;
    assert_idle(&service, &receiver).await;
    assert!(other.is_idle().await);
    assert_enabling_sends(&service, &ann, &receiver, &["Buy milk", "Buy tea"]).await;
    assert_eq!(other.next().await.titles(), ["Buy tea"]);
    service.stop().await;
}

async fn a_paused_webhook_stays_paused_when_the_account_is_enabled(database: TestDatabase) {
    let (service, receiver, other) = (start(&database).await, Receiver::start().await, Receiver::start().await);
    let ann = service.user();
    let paused = Webhook { state: State::Paused.into(), ..to(&receiver.url()) };
    let webhook = ann.create_webhook(paused).await.expect("created");
    ann.create_webhook(to(&other.url())).await.expect("created");
    disable(&service, &ann).await;
    ann.make("Buy milk").await;
    assert_idle(&service, &receiver).await;
    assert_enabling_sends(&service, &ann, &other, &["Buy milk"]).await;
    assert_idle(&service, &receiver).await;
    ann.update_webhook(Webhook { state: State::Active.into(), ..webhook }, &["state"]).await.expect("updated");
    assert_eq!(receiver.next().await.titles(), ["Buy milk"]);
    service.stop().await;
}

async fn a_restored_list_of_accounts_enables_those_that_it_does_not_disable(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let (ann, eve) = (service.user(), user_with_task(&service).await);
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    disable(&service, &ann).await;
    ann.make("Buy milk").await;
    assert_idle(&service, &receiver).await;

    service.feed.restore([eve.id]);
    wait_until_empty(&eve).await;
    ann.make("Buy tea").await;
    assert_eq!(receiver.next().await.titles(), ["Buy milk", "Buy tea"]);
    service.stop().await;
}

async fn a_restored_database_sends_nothing_of_a_disabled_account(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    disable(&service, &ann).await;

    let service = restore(service, &database).await;

    assert_idle(&service, &receiver).await;
    service.feed.enable([ann.id]);
    let message = receiver.next().await;
    assert_eq!((&message.json()["reset"], message.titles()), (&true.into(), vec!["Buy milk".to_owned()]));
    service.stop().await;
}
