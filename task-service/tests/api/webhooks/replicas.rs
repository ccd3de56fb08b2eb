//! One of several replicas sends the messages of a webhook.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use service_kit::{network::destination::Resolver, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Webhook, webhook::State};
use tokio::{sync::mpsc::unbounded_channel, time::timeout};

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Receiver},
    rotation, start, to,
};
use crate::support::{Service, User, WAIT_TIMEOUT};

on_each_database!(
    two_replicas_send_each_message_once_and_in_order,
    another_replica_continues_after_the_lease_of_a_stopped_one,
    an_interrupted_attempt_sends_no_old_message_after_newer_ones,
    a_change_of_a_webhook_waits_for_the_attempt_in_progress,
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

/// A service whose first attempt to send a message lasts until `end` is dropped.
pub(super) struct Interrupted {
    pub(super) service: Service,
    pub(super) ann: User,
    pub(super) webhook: Webhook,
    pub(super) end: mpsc::Sender<()>,
}

impl Interrupted {
    /// Starts the service, and waits for the attempt, whose message says that Ann has created "Buy milk".
    async fn start(database: &TestDatabase, receiver: &Receiver) -> Self {
        Self::start_with(database, receiver, &["Buy milk"]).await
    }

    /// Like [`start`](Self::start), after Ann has created tasks with these titles.
    pub(super) async fn start_with(database: &TestDatabase, receiver: &Receiver, titles: &[&str]) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let (begin, mut begun) = unbounded_channel();
        let (lookups, ended) = (AtomicUsize::new(0), Mutex::new(ended));
        let resolver = Resolver::from_fn(move |_, port| {
            // The first lookup is that of the creation, the second one that of the first message.
            if lookups.fetch_add(1, Ordering::SeqCst) == 1 {
                begin.send(()).expect("the test waits");
                _ = ended.lock().expect("not poisoned").recv();
            }
            Ok(vec![SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)])
        });
        let adjust = |config: &mut task_service::config::Config| config.tasks.webhooks.resolver = resolver;
        let service = Service::start_adjusted(database, &ALLOW_LOOPBACK, adjust).await;
        let ann = service.user();
        let paused = Webhook { state: State::Paused.into(), ..to(&receiver.url_with_host("hooks.example")) };
        let webhook = ann.create_webhook(paused).await.expect("created");
        for title in titles {
            ann.make(title).await;
        }
        let active = Webhook { state: State::Active.into(), ..webhook };
        let webhook = ann.update_webhook(active, &["state"]).await.expect("updated");
        timeout(WAIT_TIMEOUT, begun.recv()).await.expect("the attempt begins").expect("the service runs");
        Self { service, ann, webhook, end }
    }
}

async fn an_interrupted_attempt_sends_no_old_message_after_newer_ones(database: TestDatabase) {
    let receiver = Receiver::start().await;
    let Interrupted { service, ann, webhook, end } = Interrupted::start(&database, &receiver).await;
    // The claim expires, and another delivery sends this message and the next one.
    service.manual_clock.advance(Duration::from_secs(31));
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);
    ann.make("Buy tea").await;
    assert_eq!(receiver.titles(1).await, ["Buy tea"]);
    drop(end);
    ann.test_webhook(&webhook.id).await.expect("an attempt");
    assert!(receiver.next().await.titles().is_empty(), "the message of the test follows");
    assert!(receiver.is_idle().await);
    service.stop().await;
}

async fn a_change_of_a_webhook_waits_for_the_attempt_in_progress(database: TestDatabase) {
    let receiver = Receiver::start().await;
    let Interrupted { service, ann, webhook, end } = Interrupted::start(&database, &receiver).await;
    ann.webhooks.clone().rotate_webhook_secret(rotation(&webhook.id)).await.expect("a rotation");
    ann.make("Buy tea").await;
    // The message of another account shows that the queue was read since.
    let (bob, other) = (service.user(), Receiver::start().await);
    bob.create_webhook(to(&other.url())).await.expect("created");
    bob.make("Buy rye").await;
    assert_eq!(other.titles(1).await, ["Buy rye"]);
    // Otherwise, the attempt would send an old message after newer ones.
    assert!(receiver.is_idle().await);
    drop(end);
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);
    assert_eq!(receiver.titles(2).await, ["Buy milk", "Buy tea"]);
    assert!(receiver.is_idle().await);
    service.stop().await;
}
