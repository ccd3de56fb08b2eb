//! Watches as time goes by. All of it is in one thread, whose time the tests move.

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
    follow::{Known, end, next},
    support::{PATIENCE, Service, titled},
};

/// Runs each of the named tests on both engines, in one thread.
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
    a_watch_says_every_fifteen_seconds_how_far_it_is,
    no_deadline_cuts_a_watch_off,
    a_watch_ends_when_revocations_cannot_be_heard,
    who_reads_too_slowly_is_cut_off_and_goes_on_later,
);

const SECOND: Duration = Duration::from_secs(1);

/// Time goes by faster here than heartbeats come and databases answer.
const PATIENT: [&str; 4] = ["--revocation-max-staleness", "15m", "--database-timeout", "5m"];

/// Lets time pass, for all that waits for it.
async fn pass(duration: Duration) {
    time::pause();
    time::advance(duration).await;
    time::resume();
}

async fn a_watch_says_every_fifteen_seconds_how_far_it_is(database: TestDatabase) {
    let service = Service::start_with(&database, &PATIENT).await;
    let (ann, bob) = (service.user(), service.user());
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    for _ in 0..3 {
        pass(14 * SECOND).await;
        let task = ann.make("Buy milk").await;
        let message = next(&mut watch).await.expect("a message");
        assert_eq!((message.changes.len(), &message.changes[0].id), (1, &task.id), "it is too early for another");
    }
    for _ in 0..3 {
        bob.make("Call Ann").await;
        pass(15 * SECOND).await;
        let message = next(&mut watch).await.expect("a message");
        assert!(message.changes.is_empty() && message.checkpoint);
        assert_eq!(ann.changed(&message.sync_token).await.0, [""; 0]);
    }
}

async fn no_deadline_cuts_a_watch_off(database: TestDatabase) {
    let service = Service::start_with(&database, &[&PATIENT[..], &["--request-timeout", "2s"]].concat()).await;
    let ann = service.user();
    let mut request = Request::new(WatchTasksRequest::default());
    request.set_timeout(SECOND);
    let watch = ann.client.clone().watch_tasks(request).await.expect("a watch");
    let mut watch = watch.into_inner();
    next(&mut watch).await.expect("a message");
    for _ in 0..4 {
        pass(10 * SECOND).await;
        let task = ann.make("Buy milk").await;
        while next(&mut watch).await.expect("the watch goes on").changes.iter().all(|change| change.id != task.id) {}
    }
}

async fn a_watch_ends_when_revocations_cannot_be_heard(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    service.feed.speak(false);
    pass(31 * SECOND).await;
    assert_refused!(end(&mut watch).await, Unavailable, "VERIFIER_NOT_READY");
}

async fn who_reads_too_slowly_is_cut_off_and_goes_on_later(database: TestDatabase) {
    let small = ["--request-timeout", "20s", "--max-response-bytes", "262144"];
    let service = Service::start_with(&database, &[&PATIENT[..], &small].concat()).await;
    let ann = service.user();
    // Far more than goes into the buffers on the way.
    let task = Task { notes: "🥛".repeat(4000), ..titled("Buy milk") };
    let create = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    for _ in 0..14 {
        let writes = vec![Write { write: Some(Kind::Create(create.clone())) }; 15];
        let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    }
    let narrow = Endpoint::from_shared(format!("http://{}", service.address)).expect("a good URL");
    let narrow = ann.by(narrow.initial_stream_window_size(65_535).connect_lazy());
    let begun = Instant::now();
    let mut slow = narrow.watch("").await.expect("a watch");
    let token = ann.caught_up().await;
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(ann.watch(&token).await.expect("a watch"));
    }
    // There is a place again when it has been cut off, which none of the others is.
    while ann.watch(&token).await.is_err() {
        assert!(begun.elapsed() < 4 * PATIENCE, "it is not cut off");
        pass(SECOND).await;
        yield_now().await;
    }
    assert!(begun.elapsed() >= 10 * SECOND, "it was given some time");
    for other in &mut others {
        next(other).await.expect("whoever reads goes on");
    }

    let mut known = Known::default();
    let refusal = loop {
        if let Err(status) = known.hear(&mut slow).await {
            break status;
        }
    };
    assert!(refusal.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_refused!(Err::<(), _>(refusal), ResourceExhausted, "OVERLOADED");
    assert!(!known.tasks.is_empty() && known.tasks.len() < 210, "{}", known.tasks.len());
    let mut watch = ann.watch(&known.token).await.expect("a watch");
    known.hear_until(&mut watch, &ann.everything().await).await;
}
