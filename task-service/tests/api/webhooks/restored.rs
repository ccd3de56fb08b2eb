//! Webhooks after the database was restored from a backup.

use std::time::Duration;

use clap::Parser;
use service_kit::{on_each_database, testing::TestDatabase};
use task_service::{config::DatabaseArgs, recovery};
use taskey_proto::task::v1::{Webhook, webhook::State};
use tokio::time::timeout;

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Received, Receiver},
    start, to,
};
use crate::support::{Service, User, WAIT_TIMEOUT, pause};

on_each_database!(
    an_idle_webhook_starts_again_at_once,
    a_failing_webhook_starts_again,
    a_paused_webhook_starts_again_when_it_is_resumed,
    a_receiver_learns_that_no_task_is_left,
);

/// The flags of the database.
#[derive(Parser)]
struct Restored {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Stops the service, does to the database what the restoration of a backup does, and starts the service again.
pub(super) async fn restore(service: Service, database: &TestDatabase) -> Service {
    restore_after(service, database, Duration::ZERO).await
}

/// Like [`restore`], and takes some time.
async fn restore_after(service: Service, database: &TestDatabase, time: Duration) -> Service {
    let environment = service.environment();
    service.stop().await;
    environment.manual_clock.advance(time);
    let restored = Restored::parse_from(["task-service", "--database-url", database.url()]);
    recovery::begin_epoch(&restored.database).await.expect("a new epoch");
    Service::start_at(database, &ALLOW_LOOPBACK, environment).await
}

/// Returns whether the receiver must discard what it has, and the titles of the tasks of a message.
fn content(message: &Received) -> (bool, Vec<String>) {
    (message.json()["reset"] == true, message.titles())
}

/// Creates a task, whose change must be the next message, without a reset.
async fn assert_continues(user: &User, receiver: &Receiver) {
    user.make("Buy rye").await;
    assert_eq!(content(&receiver.next().await), (false, vec!["Buy rye".to_owned()]));
}

async fn an_idle_webhook_starts_again_at_once(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy tea").await;
    assert_eq!(content(&receiver.next().await), (false, vec!["Buy tea".to_owned()]));
    ann.webhook_when(&webhook.id, |current| current.sync_token != webhook.sync_token).await;

    let service = restore(service, &database).await;

    let titles = vec!["Buy milk".to_owned(), "Buy tea".to_owned()];
    assert_eq!(content(&receiver.next().await), (true, titles));
    assert_continues(&ann.connected_to(&service), &receiver).await;
    service.stop().await;
}

async fn a_failing_webhook_starts_again(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    receiver.answer_with(Answer::Status(500));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy tea").await;
    assert_eq!(content(&receiver.next().await), (false, vec!["Buy tea".to_owned()]));
    ann.failing_webhook(&webhook.id).await;

    let service = restore(service, &database).await;
    let titles = vec!["Buy milk".to_owned(), "Buy tea".to_owned()];
    // The next attempt is after the delay, and fails as well.
    service.manual_clock.advance(Duration::from_secs(60));
    assert_eq!(content(&receiver.next().await), (true, titles.clone()));
    let ann = ann.connected_to(&service);
    let failed_again = async {
        while ann.attempts(&webhook.id).await.len() < 2 {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, failed_again).await.expect("the attempt is stored in time");
    receiver.answer_with(Answer::Status(200));
    service.manual_clock.advance(Duration::from_secs(60));
    assert_eq!(content(&receiver.next().await), (true, titles));
    assert_continues(&ann, &receiver).await;
    service.stop().await;
}

async fn a_paused_webhook_starts_again_when_it_is_resumed(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    ann.make("Buy milk").await;
    let paused = Webhook { state: State::Paused.into(), ..to(&receiver.url()) };
    let webhook = ann.create_webhook(paused).await.expect("created");

    let service = restore(service, &database).await;

    let ann = ann.connected_to(&service);
    assert_eq!(ann.get_webhook(&webhook.id).await.expect("it exists").state(), State::Paused);
    let active = Webhook { state: State::Active.into(), etag: String::new(), ..webhook };
    ann.update_webhook(active, &["state"]).await.expect("updated");
    assert_eq!(content(&receiver.next().await), (true, vec!["Buy milk".to_owned()]));
    assert_continues(&ann, &receiver).await;
    service.stop().await;
}

async fn a_receiver_learns_that_no_task_is_left(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = Webhook { filter: "title = \"Buy rye\"".to_owned(), ..to(&receiver.url()) };
    ann.create_webhook(webhook).await.expect("created");

    // The service may be stopped while it has claimed the new webhook. If the clock was advanced after the start, the first
    // attempt could be late.
    let service = restore_after(service, &database, Duration::from_secs(60)).await;

    assert_eq!(content(&receiver.next().await), (true, Vec::new()));
    assert_continues(&ann.connected_to(&service), &receiver).await;
    service.stop().await;
}
