//! Two replicas fire each reminder once.

use std::collections::BTreeMap;

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
};

use super::{SOON, at, with};
use crate::{follow::next, support::Service};

on_each_database!(two_replicas_fire_each_reminder_once, another_replica_fires_the_reminders_of_a_stopped_one,);

async fn two_replicas_fire_each_reminder_once(database: TestDatabase) {
    const PER_USER: usize = 60;
    let first = Service::start(&database).await;
    let second = first.start_replica(&database, &[]).await;
    let users = [first.user(), first.user(), second.user()];
    let time = first.clock.now() + SOON;
    let mut watches = Vec::new();
    for user in &users {
        let request = CreateTaskRequest { task: Some(with(vec![at(time)])), ..CreateTaskRequest::default() };
        let writes = vec![Write { write: Some(Kind::Create(request)) }; PER_USER];
        let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        user.client.clone().batch_write_tasks(batch).await.expect("a batch");
        watches.push(user.watch(&user.current_sync_token().await).await.expect("a watch"));
    }
    first.manual_clock.advance(SOON);
    for (user, watch) in users.iter().zip(&mut watches) {
        let mut firings = BTreeMap::new();
        while firings.len() < PER_USER {
            for change in next(watch).await.expect("the watch continues").changes {
                *firings.entry(change.id).or_insert(0) += 1;
            }
        }
        let last = user.make("Buy oats").await;
        let mut changes = Vec::new();
        while changes.is_empty() {
            changes = next(watch).await.expect("the watch continues").changes;
        }
        assert_eq!(changes.into_iter().map(|change| change.id).collect::<Vec<_>>(), [last.id], "nothing fires again");
        assert!(firings.values().all(|count| *count == 1), "{firings:?}");
    }
    first.stop().await;
    second.stop().await;
}

async fn another_replica_fires_the_reminders_of_a_stopped_one(database: TestDatabase) {
    let first = Service::start(&database).await;
    let second = first.start_replica(&database, &[]).await;
    let ann = first.user();
    let task = ann.create(with(vec![at(first.clock.now() + SOON)])).await.expect("a task");
    let clock = first.manual_clock.clone();
    first.stop().await;
    let ann = ann.connected_to(&second);
    clock.advance(SOON);
    let fired = ann.task_after_firings(&task.id, 1).await;
    assert!(!fired.reminders[0].late);
    second.stop().await;
}
