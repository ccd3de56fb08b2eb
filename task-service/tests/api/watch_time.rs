//! Watches over time. Everything runs in one thread, whose clock the tests advance.

use std::time::Duration;

use service_kit::{assert_refused, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, Task, WatchTasksRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
};
use tokio::{
    task::yield_now,
    time::{self, Instant},
};
use tonic::{Request, transport::Endpoint};
use tonic_types::StatusExt;

use crate::{
    follow::{LocalCopy, end, next},
    support::{Service, WAIT_TIMEOUT, titled},
};

/// Runs each test on both engines, in one thread.
macro_rules! in_one_thread {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::TestDatabase::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(database) = super::TestDatabase::postgres().await {
                    super::$test(database).await;
                }
            })*
        }
    };
}

in_one_thread!(
    watch_sends_a_checkpoint_every_fifteen_seconds,
    watch_has_no_deadline,
    watch_ends_when_the_revocation_feed_is_silent,
    slow_reader_is_disconnected_and_can_resume,
);

const SECOND: Duration = Duration::from_secs(1);

/// Generous limits: these tests advance the clock faster than heartbeats arrive and databases respond.
const GENEROUS_LIMITS: [&str; 4] = ["--revocation-max-staleness", "15m", "--database-timeout", "5m"];

/// Advances the clock, and lets every timer that is due fire.
async fn advance(duration: Duration) {
    time::pause();
    time::advance(duration).await;
    time::resume();
}

async fn watch_sends_a_checkpoint_every_fifteen_seconds(database: TestDatabase) {
    let service = Service::start_with(&database, &GENEROUS_LIMITS).await;
    let (ann, bob) = (service.user(), service.user());
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    for _ in 0..3 {
        advance(14 * SECOND).await;
        let task = ann.make("Buy milk").await;
        let message = next(&mut watch).await.expect("a message");
        assert_eq!((message.changes.len(), &message.changes[0].id), (1, &task.id), "it is too early for a checkpoint");
    }
    for _ in 0..3 {
        bob.make("Call Ann").await;
        advance(15 * SECOND).await;
        let message = next(&mut watch).await.expect("a message");
        assert!(message.changes.is_empty() && message.checkpoint);
        assert_eq!(ann.changed_ids(&message.sync_token).await.0, [""; 0]);
    }
}

async fn watch_has_no_deadline(database: TestDatabase) {
    let service = Service::start_with(&database, &[&GENEROUS_LIMITS[..], &["--request-timeout", "2s"]].concat()).await;
    let ann = service.user();
    let mut request = Request::new(WatchTasksRequest::default());
    request.set_timeout(SECOND);
    let watch = ann.client.clone().watch_tasks(request).await.expect("a watch");
    let mut watch = watch.into_inner();
    next(&mut watch).await.expect("a message");
    for _ in 0..4 {
        advance(10 * SECOND).await;
        let task = ann.make("Buy milk").await;
        while next(&mut watch).await.expect("the watch continues").changes.iter().all(|change| change.id != task.id) {}
    }
}

async fn watch_ends_when_the_revocation_feed_is_silent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    service.feed.set_sending(false);
    advance(31 * SECOND).await;
    assert_refused!(end(&mut watch).await, Unavailable, "VERIFIER_NOT_READY");
}

async fn slow_reader_is_disconnected_and_can_resume(database: TestDatabase) {
    let flags = ["--request-timeout", "20s", "--max-response-bytes", "262144"];
    let service = Service::start_with(&database, &[&GENEROUS_LIMITS[..], &flags].concat()).await;
    let ann = service.user();
    // Far more than the buffers between server and client hold.
    let task = Task { notes: "🥛".repeat(4000), ..titled("Buy milk") };
    let create = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    for _ in 0..14 {
        let writes = vec![Write { write: Some(Kind::Create(create.clone())) }; 15];
        let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", service.address)).expect("a valid URL");
    let slow_reader = ann.with_channel(endpoint.initial_stream_window_size(65_535).connect_lazy());
    let started = Instant::now();
    let mut slow_watch = slow_reader.watch("").await.expect("a watch");
    let token = ann.current_sync_token().await;
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(ann.watch(&token).await.expect("a watch"));
    }
    // The user has the maximum number of watches, so a new one starts only after the slow one was disconnected.
    while ann.watch(&token).await.is_err() {
        assert!(started.elapsed() < 4 * WAIT_TIMEOUT, "the slow watch is not disconnected");
        advance(SECOND).await;
        yield_now().await;
    }
    assert!(started.elapsed() >= 10 * SECOND, "the slow watch was disconnected too early");
    for other in &mut others {
        next(other).await.expect("a watch that is read continues");
    }

    let mut copy = LocalCopy::default();
    let status = loop {
        if let Err(status) = copy.receive(&mut slow_watch).await {
            break status;
        }
    };
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_refused!(Err::<(), _>(status), ResourceExhausted, "OVERLOADED");
    assert!(!copy.tasks.is_empty() && copy.tasks.len() < 210, "{}", copy.tasks.len());
    let mut watch = ann.watch(&copy.token).await.expect("a watch");
    copy.receive_until(&mut watch, &ann.all_tasks().await).await;
}
