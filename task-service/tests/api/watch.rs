//! `WatchTasks`: what it tells.

use std::{collections::HashSet, time::Duration};

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
};
use tokio::time::timeout;

use crate::{
    follow::{Known, Watch, next},
    support::{Service, User, titled},
};

on_each_database!(
    a_watch_begins_with_what_was_missed,
    a_watch_tells_each_change_as_it_happens,
    a_watch_tells_what_another_replica_does,
    a_purge_is_told_although_nobody_announces_it,
    much_that_was_missed_comes_in_several_messages,
    a_watch_is_taken_up_without_loss_or_repetition,
    watches_and_pulls_take_each_others_tokens,
    what_others_do_is_not_told,
);

/// Well over the half second after which it is polled, and under the fifteen of a checkpoint.
const SOON: Duration = Duration::from_secs(10);

/// Waits for a change, and answers the ids of the tasks that have changed.
async fn told(watch: &mut Watch) -> Vec<String> {
    let message = timeout(SOON, next(watch)).await.expect("it is told soon").expect("the watch goes on");
    message.changes.into_iter().map(|change| change.id).collect()
}

/// Makes many tasks at once.
async fn make(user: &User, count: usize) {
    let request = CreateTaskRequest { task: Some(titled("Buy milk")), ..CreateTaskRequest::default() };
    let writes = vec![Write { write: Some(Kind::Create(request)) }; count];
    let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    user.client.clone().batch_write_tasks(batch).await.expect("a batch");
}

async fn a_watch_begins_with_what_was_missed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    let first = next(&mut watch).await.expect("a message");
    assert!(first.changes.is_empty() && first.checkpoint, "there is nothing, and that is said at once");

    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    let between = ann.caught_up().await;
    let milk = ann.complete(&milk.id, "").await.expect("a completion");
    for (token, expected) in
        [("", vec![&oats, &milk]), (&first.sync_token, vec![&oats, &milk]), (&between, vec![&milk])]
    {
        let mut watch = ann.watch(token).await.expect("a watch");
        let message = next(&mut watch).await.expect("a message");
        let told: Vec<_> = message.changes.iter().filter_map(|change| change.task.as_ref()).collect();
        assert_eq!((told, message.checkpoint), (expected, true));
        assert_eq!(ann.changed(&message.sync_token).await.0, [""; 0]);
    }
}

async fn a_watch_tells_each_change_as_it_happens(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    let mut known = Known::default();
    known.hear(&mut watch).await.expect("a message");
    let task = ann.make("Buy milk").await;
    for step in 0..4 {
        let expected = match step {
            0 => task.clone(),
            1 => ann.complete(&task.id, "").await.expect("a completion"),
            2 => ann.delete(&task.id, "").await.expect("a deletion"),
            _ => ann.undelete(&task.id, "").await.expect("an undeletion"),
        };
        while known.tasks.get(&task.id) != Some(&expected) {
            known.hear(&mut watch).await.expect("the watch goes on");
        }
    }
}

async fn a_watch_tells_what_another_replica_does(database: TestDatabase) {
    let service = Service::start(&database).await;
    let replica = service.beside(&database, &[]).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    let elsewhere = ann.at(&replica);
    for _ in 0..3 {
        let task = elsewhere.make("Buy milk").await;
        assert_eq!(told(&mut watch).await, [task.id]);
    }
}

/// One that polls hears of it half a second later in the mean, and of each only after the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_replica_does_is_announced_on_postgres() {
    const CHANGES: u32 = 60;
    let Some(database) = TestDatabase::postgres().await else { return };
    let service = Service::start(&database).await;
    let replica = service.beside(&database, &[]).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    let elsewhere = ann.at(&replica);
    let all = async {
        for _ in 0..CHANGES {
            let task = elsewhere.make("Buy milk").await;
            assert_eq!(told(&mut watch).await, [task.id]);
        }
    };
    timeout(CHANGES * Duration::from_millis(250), all).await.expect("it is sooner than by polling");
}

async fn a_purge_is_told_although_nobody_announces_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let token = ann.caught_up().await;
    service.hands.advance(Duration::from_secs(30 * 24 * 3600));
    let mut watch = ann.watch(&token).await.expect("a watch");
    assert!(next(&mut watch).await.expect("a message").changes.is_empty());
    let replica = service.beside(&database, &[]).await;
    let message = timeout(SOON, next(&mut watch)).await.expect("it is told soon").expect("a message");
    assert!(message.changes[0].removed && message.changes[0].id == task.id);
    replica.stop().await;
}

async fn much_that_was_missed_comes_in_several_messages(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    make(&ann, 60).await;
    let mut watch = ann.watch("").await.expect("a watch");
    let mut sizes = Vec::new();
    let mut known = Known::default();
    loop {
        let message = next(&mut watch).await.expect("a message");
        sizes.push(message.changes.len());
        known.learn(message.changes, message.sync_token);
        if message.checkpoint {
            break;
        }
    }
    assert_eq!(sizes, [25, 25, 10]);
    assert_eq!(known.tasks, ann.everything().await);
}

async fn a_watch_is_taken_up_without_loss_or_repetition(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (mut known, mut seen) = (Known::default(), HashSet::new());
    for round in 0..6 {
        make(&ann, 60).await;
        let mut watch = ann.watch(&known.token).await.expect("a watch");
        // It is dropped between messages, the first of which does not hold all.
        for _ in 0..round % 3 {
            let message = next(&mut watch).await.expect("a message");
            for task in message.changes.iter().filter_map(|change| change.task.clone()) {
                assert!(seen.insert((task.id, task.etag)), "no version of a task comes twice");
            }
            known.learn(message.changes, message.sync_token);
            ann.make("Buy oats").await;
        }
    }
    let mut watch = ann.watch(&known.token).await.expect("a watch");
    known.hear_until(&mut watch, &ann.everything().await).await;
}

async fn watches_and_pulls_take_each_others_tokens(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    make(&ann, 5).await;
    let mut known = Known::default();
    let page = ann.changes("", 2).await.expect("a page");
    known.learn(page.changes, page.next_sync_token);
    let mut watch = ann.watch(&known.token).await.expect("a watch");
    let message = next(&mut watch).await.expect("a message");
    assert_eq!(message.changes.len(), 3);
    known.learn(message.changes, message.sync_token);
    let task = ann.make("Buy oats").await;
    assert_eq!(ann.changed(&known.token).await.0, [task.id]);
}

async fn what_others_do_is_not_told(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    for _ in 0..5 {
        bob.make("Call Ann").await;
        let task = ann.make("Buy milk").await;
        assert_eq!(told(&mut watch).await, [task.id]);
    }
}
