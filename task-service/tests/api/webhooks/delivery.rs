//! Changes are sent in order and at least once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use service_kit::{args, assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, Webhook, task::Priority, webhook::State};
use tokio::{task::yield_now, time::timeout};

use super::{
    receiver::{Answer, Receiver},
    start, to,
};
use crate::{
    delete::open_database,
    follow::next,
    support::{WAIT_TIMEOUT, titled},
};

on_each_database!(
    a_message_has_the_json_of_a_watch_and_a_standard_signature,
    changed_fields_name_what_has_changed_since_the_last_message,
    changes_are_sent_in_the_order_of_the_mutations,
    a_failed_message_is_sent_again_with_the_same_id_and_a_new_timestamp,
    an_outage_loses_no_change,
    only_changes_that_match_the_filter_are_sent,
    a_slow_receiver_does_not_delay_others,
    redelivered_messages_have_new_ids,
    changes_without_a_notification_are_sent_after_the_next_start,
    a_webhook_starts_again_with_all_tasks_after_history_was_lost,
);

async fn a_message_has_the_json_of_a_watch_and_a_standard_signature(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let since = ann.current_sync_token().await;
    let webhook =
        ann.create_webhook(Webhook { sync_token: since.clone(), ..to(&receiver.url()) }).await.expect("created");
    let task = ann.make("Buy milk").await;

    let received = receiver.next().await;
    let mut watch = ann.watch(&since).await.expect("a watch");
    let watched = next(&mut watch).await.expect("a message");
    let json = received.json();
    assert_eq!(json["changes"][0]["id"], task.id);
    let sent = &json["changes"][0]["task"];
    assert_eq!(
        (&sent["title"], &sent["etag"], &sent["state"]),
        (&"Buy milk".into(), &task.etag.into(), &"STATE_OPEN".into())
    );
    assert_eq!(
        (sent["notes"].as_str(), sent["labels"].as_array().map(Vec::len)),
        (Some(""), Some(0)),
        "default values"
    );
    assert_eq!((&json["syncToken"], &json["checkpoint"]), (&watched.sync_token.into(), &watched.checkpoint.into()));
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("webhook-timestamp"), service.clock.now().as_seconds().to_string());
    assert_eq!(received.header("webhook-signature"), received.expected_signature(&[&webhook.secret]));
    service.stop().await;
}

async fn changed_fields_name_what_has_changed_since_the_last_message(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    let task = ann.make("Buy milk").await;
    assert_eq!(receiver.next().await.json()["changes"][0]["changedFields"], json!([]), "the task was created");
    let renamed = Task { title: "Buy tea".to_owned(), notes: "Green".to_owned(), ..task.clone() };
    ann.update(Task { etag: String::new(), ..renamed }, &["title", "notes"]).await.expect("updated");
    assert_eq!(receiver.next().await.json()["changes"][0]["changedFields"], json!(["notes", "title"]));
    ann.complete(&task.id, "").await.expect("completed");
    assert_eq!(receiver.next().await.json()["changes"][0]["changedFields"], json!(["complete_time"]));
    service.stop().await;
}

async fn changes_are_sent_in_the_order_of_the_mutations(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    let titles: Vec<_> = (0..60).map(|number| format!("Task {number}")).collect();
    for title in &titles {
        ann.make(title).await;
    }
    assert_eq!(receiver.titles(60).await, titles);
    service.stop().await;
}

async fn a_failed_message_is_sent_again_with_the_same_id_and_a_new_timestamp(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let first = receiver.next().await;
    ann.failing_webhook(&webhook.id).await;
    // A change does not end the delay, and is not in the message that has failed.
    ann.make("Buy tea").await;
    receiver.answer_with(Answer::Status(204));
    service.manual_clock.advance(Duration::from_secs(8));
    let second = receiver.next().await;
    assert_eq!(second.titles(), ["Buy milk"]);
    assert_eq!(second.json(), first.json(), "although there are more changes since");
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_ne!(second.header("webhook-timestamp"), first.header("webhook-timestamp"));
    assert_eq!(second.header("webhook-signature"), second.expected_signature(&[&webhook.secret]));
    let third = receiver.next().await;
    assert_eq!(third.titles(), ["Buy tea"]);
    assert_ne!(third.header("webhook-id"), first.header("webhook-id"));
    ann.webhook_when(&webhook.id, |webhook| webhook.failing_since_time.is_none()).await;
    let statuses: Vec<_> = ann.attempts(&webhook.id).await.iter().map(|attempt| attempt.http_status).collect();
    assert!(statuses.ends_with(&[204, 500]), "{statuses:?}");
    service.stop().await;
}

async fn an_outage_loses_no_change(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(503));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Task 0").await;
    ann.failing_webhook(&webhook.id).await;
    receiver.next().await;
    let mut titles = vec!["Task 0".to_owned()];
    for number in 1..70 {
        titles.push(ann.make(&format!("Task {number}")).await.title);
    }
    service.manual_clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(receiver.next().await.titles(), ["Task 0"]);
    let failed_again = async {
        while ann.attempts(&webhook.id).await.len() < 2 {
            yield_now().await;
        }
    };
    timeout(WAIT_TIMEOUT, failed_again).await.expect("the attempt is stored");
    receiver.answer_with(Answer::Status(200));
    service.manual_clock.advance(Duration::from_secs(3600));
    assert_eq!(receiver.titles(70).await, titles);
    service.stop().await;
}

async fn only_changes_that_match_the_filter_are_sent(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let filter = "priority = HIGH AND title:milk".to_owned();
    let webhook = ann.create_webhook(Webhook { filter, ..to(&receiver.url()) }).await.expect("created");
    let high = |title: &str| Task { priority: Priority::High.into(), ..titled(title) };
    join_all((0..30).map(|_| ann.make("Buy milk"))).await;
    ann.create(high("Buy tea")).await.expect("created");
    let task = ann.create(high("Buy milk")).await.expect("created");
    assert_eq!(receiver.next().await.json()["changes"][0]["id"], task.id);
    let last = ann.current_sync_token().await;
    ann.webhook_when(&webhook.id, |webhook| webhook.sync_token == last).await;
    assert!(receiver.is_idle().await);
    service.stop().await;
}

async fn a_slow_receiver_does_not_delay_others(database: TestDatabase) {
    let (service, receiver, slow) = (start(&database).await, Receiver::start().await, Receiver::start().await);
    let (ann, bob) = (service.user(), service.user());
    slow.answer_with(Answer::Nothing);
    ann.create_webhook(to(&slow.url())).await.expect("created");
    bob.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    slow.next().await;
    bob.make("Call Ann").await;
    assert_eq!(receiver.titles(1).await, ["Call Ann"]);
    ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy tea").await;
    assert_eq!(receiver.titles(1).await, ["Buy tea"]);
    service.stop().await;
}

async fn redelivered_messages_have_new_ids(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    let first = receiver.next().await;
    ann.redeliver(&webhook.id, &webhook.sync_token).await.expect("moved");
    let second = receiver.next().await;
    assert_eq!((second.titles(), second.json()), (first.titles(), first.json()));
    assert_ne!(second.header("webhook-id"), first.header("webhook-id"));
    ann.redeliver(&webhook.id, "").await.expect("moved");
    assert_eq!(receiver.next().await.titles(), ["Buy milk"]);
    assert_refused!(
        ann.redeliver(&webhook.id, &service.user().current_sync_token().await).await,
        InvalidArgument,
        "SYNC_TOKEN_INVALID",
        "sync_token",
    );
    service.stop().await;
}

async fn changes_without_a_notification_are_sent_after_the_next_start(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let paused = Webhook { state: State::Paused.into(), ..webhook };
    ann.update_webhook(paused, &["state"]).await.expect("updated");
    service.stop().await;
    // As if a replica had stopped after a commit and before its notification.
    let db = open_database(&database.parsed_url()).await;
    let changed = "update webhooks set pause_time = null, due_time = null, position = 0, sync_token = ''";
    db.execute(changed, args![]).await.expect("updated");
    db.close().await;
    let service = start(&database).await;
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);
    service.stop().await;
}

async fn a_webhook_starts_again_with_all_tasks_after_history_was_lost(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy tea").await;
    assert_eq!(receiver.titles(1).await, ["Buy tea"]);
    ann.webhook_when(&webhook.id, |current| current.sync_token != webhook.sync_token).await;
    crate::history::begin_epoch(&database).await;
    ann.make("Buy oats").await;
    assert_eq!(receiver.titles(3).await, ["Buy milk", "Buy tea", "Buy oats"]);
    service.stop().await;
}
