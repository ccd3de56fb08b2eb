//! `WatchTasks`: the changes that it reports.

use std::{collections::HashSet, time::Duration};

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
};
use tokio::time::timeout;

use crate::{
    follow::{LocalCopy, Watch, next},
    support::{Service, User, titled},
};

on_each_database!(
    watch_starts_with_the_missed_changes,
    watch_reports_each_change_as_it_happens,
    watch_reports_changes_made_at_another_replica,
    purge_is_reported_without_a_notification,
    many_missed_changes_arrive_in_several_messages,
    watch_resumes_without_loss_or_repetition,
    watches_and_pulls_accept_each_others_tokens,
    changes_of_other_users_are_not_reported,
);

/// Well above the polling interval of half a second, and below the fifteen seconds between checkpoints.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// Waits for a message and returns the ids of the changed tasks.
async fn next_changed_ids(watch: &mut Watch) -> Vec<String> {
    let message =
        timeout(REPORT_LIMIT, next(watch)).await.expect("a message arrives in time").expect("the watch continues");
    message.changes.into_iter().map(|change| change.id).collect()
}

/// Creates tasks in one batch.
async fn make(user: &User, count: usize) {
    let request = CreateTaskRequest { task: Some(titled("Buy milk")), ..CreateTaskRequest::default() };
    let writes = vec![Write { write: Some(Kind::Create(request)) }; count];
    let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    user.client.clone().batch_write_tasks(batch).await.expect("a batch");
}

async fn watch_starts_with_the_missed_changes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    let first = next(&mut watch).await.expect("a message");
    assert!(first.changes.is_empty() && first.checkpoint, "an empty checkpoint is sent immediately");

    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    let between = ann.current_sync_token().await;
    let milk = ann.complete(&milk.id, "").await.expect("a completion");
    for (token, expected) in
        [("", vec![&oats, &milk]), (&first.sync_token, vec![&oats, &milk]), (&between, vec![&milk])]
    {
        let mut watch = ann.watch(token).await.expect("a watch");
        let message = next(&mut watch).await.expect("a message");
        let tasks: Vec<_> = message.changes.iter().filter_map(|change| change.task.as_ref()).collect();
        assert_eq!((tasks, message.checkpoint), (expected, true));
        assert_eq!(ann.changed_ids(&message.sync_token).await.0, [""; 0]);
    }
}

async fn watch_reports_each_change_as_it_happens(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    let mut copy = LocalCopy::default();
    copy.receive(&mut watch).await.expect("a message");
    let task = ann.make("Buy milk").await;
    for step in 0..4 {
        let expected = match step {
            0 => task.clone(),
            1 => ann.complete(&task.id, "").await.expect("a completion"),
            2 => ann.delete(&task.id, "").await.expect("a deletion"),
            _ => ann.undelete(&task.id, "").await.expect("an undeletion"),
        };
        while copy.tasks.get(&task.id) != Some(&expected) {
            copy.receive(&mut watch).await.expect("the watch continues");
        }
    }
}

async fn watch_reports_changes_made_at_another_replica(database: TestDatabase) {
    let service = Service::start(&database).await;
    let replica = service.start_replica(&database, &[]).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    let elsewhere = ann.connected_to(&replica);
    for _ in 0..3 {
        let task = elsewhere.make("Buy milk").await;
        assert_eq!(next_changed_ids(&mut watch).await, [task.id]);
    }
}

/// With polling alone, each change would arrive half a second later on average, and only after the previous one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_notifies_replicas_faster_than_polling() {
    const CHANGES: u32 = 60;
    let Some(database) = TestDatabase::postgres().await else { return };
    let service = Service::start(&database).await;
    let replica = service.start_replica(&database, &[]).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    let elsewhere = ann.connected_to(&replica);
    let all = async {
        for _ in 0..CHANGES {
            let task = elsewhere.make("Buy milk").await;
            assert_eq!(next_changed_ids(&mut watch).await, [task.id]);
        }
    };
    timeout(CHANGES * Duration::from_millis(250), all).await.expect("faster than by polling");
}

async fn purge_is_reported_without_a_notification(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let token = ann.current_sync_token().await;
    service.manual_clock.advance(Duration::from_secs(30 * 24 * 3600));
    let mut watch = ann.watch(&token).await.expect("a watch");
    assert!(next(&mut watch).await.expect("a message").changes.is_empty());
    let replica = service.start_replica(&database, &[]).await;
    let message = timeout(REPORT_LIMIT, next(&mut watch)).await.expect("a message arrives in time").expect("a message");
    assert!(message.changes[0].removed && message.changes[0].id == task.id);
    replica.stop().await;
}

async fn many_missed_changes_arrive_in_several_messages(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    make(&ann, 60).await;
    let mut watch = ann.watch("").await.expect("a watch");
    let mut sizes = Vec::new();
    let mut copy = LocalCopy::default();
    loop {
        let message = next(&mut watch).await.expect("a message");
        sizes.push(message.changes.len() + message.list_changes.len());
        let is_checkpoint = message.checkpoint;
        copy.apply_message(message);
        if is_checkpoint {
            break;
        }
    }
    assert_eq!(sizes, [25, 25, 11], "the tasks, and the default list");
    assert_eq!((copy.tasks, copy.lists), (ann.all_tasks().await, ann.all_lists().await));
}

async fn watch_resumes_without_loss_or_repetition(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (mut copy, mut seen) = (LocalCopy::default(), HashSet::new());
    for round in 0..6 {
        make(&ann, 60).await;
        let mut watch = ann.watch(&copy.token).await.expect("a watch");
        // Drop the watch between messages. The first message does not contain all changes.
        for _ in 0..round % 3 {
            let message = next(&mut watch).await.expect("a message");
            for task in message.changes.iter().filter_map(|change| change.task.clone()) {
                assert!(seen.insert((task.id, task.etag)), "no version of a task is reported twice");
            }
            copy.apply_message(message);
            ann.make("Buy oats").await;
        }
    }
    let mut watch = ann.watch(&copy.token).await.expect("a watch");
    copy.receive_until(&mut watch, &ann.all_tasks().await).await;
}

async fn watches_and_pulls_accept_each_others_tokens(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    make(&ann, 5).await;
    let mut copy = LocalCopy::default();
    // The default list and two tasks.
    copy.apply_page(ann.changes("", 3).await.expect("a page"));
    let mut watch = ann.watch(&copy.token).await.expect("a watch");
    let message = next(&mut watch).await.expect("a message");
    assert_eq!(message.changes.len(), 3);
    copy.apply_message(message);
    let task = ann.make("Buy oats").await;
    assert_eq!(ann.changed_ids(&copy.token).await.0, [task.id]);
}

async fn changes_of_other_users_are_not_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    for _ in 0..5 {
        bob.make("Call Ann").await;
        let task = ann.make("Buy milk").await;
        assert_eq!(next_changed_ids(&mut watch).await, [task.id]);
    }
}
