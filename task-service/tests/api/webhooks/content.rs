//! What receivers learn from the ids of messages and their checkpoints.

use std::time::Duration;

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Webhook, webhook::State};

use super::{
    receiver::{Answer, Receiver},
    start, to,
};
use crate::support::User;

on_each_database!(
    a_message_that_announces_more_is_followed_by_one,
    a_retried_message_announces_the_same,
    a_message_has_another_id_if_the_filter_selects_other_changes,
);

/// Creates a webhook whose first message has the changes of these tasks, as far as the filter selects them.
async fn with_pending(ann: &User, receiver: &Receiver, filter: &str, titles: &[String]) -> Webhook {
    let state = State::Paused.into();
    let paused = Webhook { filter: filter.to_owned(), state, ..to(&receiver.url()) };
    let webhook = ann.create_webhook(paused).await.expect("created");
    for title in titles {
        ann.make(title).await;
    }
    let active = Webhook { state: State::Active.into(), ..webhook };
    ann.update_webhook(active, &["state"]).await.expect("resumed")
}

async fn a_message_that_announces_more_is_followed_by_one(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let titles: Vec<_> = (0..30).map(|number| format!("Task {number}")).collect();
    // The other changes are in two pages.
    let webhook = with_pending(&ann, &receiver, "title:\"Task 0\"", &titles).await;
    let first = receiver.next().await;
    assert_eq!((first.titles(), &first.json()["checkpoint"]), (vec!["Task 0".to_owned()], &false.into()));
    let last = receiver.next().await;
    let end = ann.current_sync_token().await;
    assert_eq!((last.titles(), &last.json()["checkpoint"]), (Vec::new(), &true.into()));
    assert_eq!(last.json()["syncToken"], end.as_str());
    assert_ne!(last.header("webhook-id"), first.header("webhook-id"));
    ann.webhook_when(&webhook.id, |webhook| webhook.sync_token == end).await;
    // Without such a message, there is nothing to send.
    let titles: Vec<_> = (0..30).map(|number| format!("Other {number}")).collect();
    let unmatched = with_pending(&ann, &receiver, "title:milk", &titles).await;
    let end = ann.current_sync_token().await;
    ann.webhook_when(&unmatched.id, |webhook| webhook.sync_token == end).await;
    assert!(receiver.is_idle().await);
    service.stop().await;
}

async fn a_retried_message_announces_the_same(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let titles: Vec<_> = (0..26).map(|number| format!("Task {number}")).collect();
    let webhook = with_pending(&ann, &receiver, "", &titles).await;
    ann.failing_webhook(&webhook.id).await;
    let first = receiver.next().await;
    assert_eq!((first.titles().len(), &first.json()["checkpoint"]), (25, &false.into()));
    receiver.answer_with(Answer::Status(200));
    service.manual_clock.advance(Duration::from_secs(8));
    let second = receiver.next().await;
    assert_eq!((second.json(), second.header("webhook-id")), (first.json(), first.header("webhook-id")));
    let last = receiver.next().await;
    assert_eq!((last.titles(), &last.json()["checkpoint"]), (vec!["Task 25".to_owned()], &true.into()));
    service.stop().await;
}

async fn a_message_has_another_id_if_the_filter_selects_other_changes(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Status(500));
    let titles = ["Buy milk".to_owned(), "Buy tea".to_owned()];
    let webhook = with_pending(&ann, &receiver, "title:milk", &titles).await;
    let failing = ann.failing_webhook(&webhook.id).await;
    let first = receiver.next().await;
    assert_eq!(first.titles(), ["Buy milk"]);
    // The same changes are the same message.
    let repeated = Webhook { filter: "title = \"Buy milk\"".to_owned(), ..failing };
    let updated = ann.update_webhook(repeated, &["filter"]).await.expect("updated");
    let second = receiver.next().await;
    assert_eq!((second.json(), second.header("webhook-id")), (first.json(), first.header("webhook-id")));
    receiver.answer_with(Answer::Status(200));
    let unfiltered = Webhook { filter: String::new(), ..updated };
    ann.update_webhook(unfiltered, &["filter"]).await.expect("updated");
    let third = receiver.next().await;
    assert_eq!(third.titles(), ["Buy milk", "Buy tea"]);
    assert_ne!(third.header("webhook-id"), first.header("webhook-id"));
    service.stop().await;
}
