//! Webhooks whose receivers fail for long, or decline further messages, are paused.

use std::time::Duration;

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Webhook, webhook::State};

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Receiver},
    start, to,
};

on_each_database!(
    a_webhook_is_paused_after_three_days_and_loses_no_change,
    repeating_the_state_of_an_active_webhook_is_no_success,
    status_410_pauses_a_webhook_at_once,
    a_paused_webhook_sends_nothing_until_it_is_resumed,
    a_clock_that_was_fast_does_not_delay_a_webhook,
);

async fn a_webhook_is_paused_after_three_days_and_loses_no_change(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let failing_since = ann.failing_webhook(&webhook.id).await.failing_since_time;
    service.manual_clock.advance(Duration::from_secs(3 * 86_400));
    let paused = ann.paused_webhook(&webhook.id).await;
    assert_eq!(paused.failing_since_time, failing_since);
    assert_ne!(paused.etag, webhook.etag, "the state has changed");
    receiver.next().await;
    receiver.next().await;
    assert_eq!(ann.attempts(&webhook.id).await.len(), 2);

    ann.make("Buy tea").await;
    receiver.answer_with(Answer::Status(200));
    let active = Webhook { state: State::Active.into(), etag: paused.etag, ..webhook.clone() };
    let resumed = ann.update_webhook(active, &["state"]).await.expect("updated");
    assert_eq!((resumed.state(), resumed.failing_since_time), (State::Active, None));
    assert_eq!(receiver.titles(2).await, ["Buy milk", "Buy tea"]);
    service.stop().await;
}

async fn repeating_the_state_of_an_active_webhook_is_no_success(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let failing = ann.failing_webhook(&webhook.id).await;
    // The whole object of a GET.
    let all = ["url", "filter", "state", "sync_token", "failing_since_time", "create_time", "update_time"];
    let updated = ann.patch_webhook(failing.clone(), &all).await.expect("updated");
    assert_eq!(updated.failing_since_time, failing.failing_since_time);
    service.manual_clock.advance(Duration::from_secs(3 * 86_400));
    assert_eq!(ann.paused_webhook(&webhook.id).await.failing_since_time, failing.failing_since_time);
    service.stop().await;
}

async fn status_410_pauses_a_webhook_at_once(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(410));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    ann.paused_webhook(&webhook.id).await;
    let attempts = ann.attempts(&webhook.id).await;
    assert_eq!((attempts.len(), attempts[0].http_status), (1, 410));
    assert_eq!(attempts[0].error, "the receiver answered with status 410");
    service.stop().await;
}

async fn a_paused_webhook_sends_nothing_until_it_is_resumed(database: TestDatabase) {
    let (service, receiver, other) = (start(&database).await, Receiver::start().await, Receiver::start().await);
    let ann = service.user();
    let paused = Webhook { state: State::Paused.into(), ..to(&receiver.url()) };
    let webhook = ann.create_webhook(paused).await.expect("created");
    ann.create_webhook(to(&other.url())).await.expect("created");
    ann.make("Buy milk").await;
    assert_eq!(other.titles(1).await, ["Buy milk"]);
    assert!(receiver.is_idle().await);
    ann.update_webhook(Webhook { state: State::Active.into(), ..webhook }, &["state"]).await.expect("updated");
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);
    service.stop().await;
}

async fn a_clock_that_was_fast_does_not_delay_a_webhook(database: TestDatabase) {
    const AHEAD: Duration = Duration::from_secs(365 * 86_400);
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    service.manual_clock.advance(AHEAD);
    receiver.answer_with(Answer::Status(500));
    ann.make("Buy milk").await;
    ann.failing_webhook(&webhook.id).await;
    assert_eq!(receiver.next().await.titles(), ["Buy milk"]);
    // The next attempt is due in a year.
    receiver.answer_with(Answer::Status(200));
    service.manual_clock.set_back(AHEAD);
    let service = service.restart_with(&database, &ALLOW_LOOPBACK).await;
    assert_eq!(receiver.next().await.titles(), ["Buy milk"]);
    service.stop().await;
}
