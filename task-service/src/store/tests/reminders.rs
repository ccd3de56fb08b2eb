//! The queue of reminders.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{CreateTaskRequest, Reminder, Task, reminder::Time};

use super::*;
use crate::store::reminder_queue::{FiredBatch, fire_batch, next_due};

on_each_database!(an_owner_with_many_due_reminders_does_not_delay_others, concurrent_replicas_fire_each_reminder_once,);

/// Creates tasks with a reminder at a time, in one mutation.
async fn create_reminders(db: &Db, owner: Uuid, time: Timestamp, count: usize) {
    let reminder = Reminder { time: Some(Time::RemindTime(time.into())), ..Reminder::default() };
    let task = Task { title: "Buy milk".to_owned(), reminders: vec![reminder], ..Task::default() };
    let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    let write = write::parse(|validator| write::create(request, validator)).expect("valid").remove(0);
    let ids: Vec<_> = (0..count).map(|_| Clock::system().new_id()).collect();
    let queue = OwnerQueue::new(Duration::from_secs(10), row_rate_limit());
    let mutation = mutation(owner, Clock::system().now(), vec![write; count], ids);
    let outcome = mutations::execute(db, &queue, mutation).await.expect("the tasks are created");
    assert!(matches!(outcome, Outcome::Done(rows) if rows.len() == count));
}

async fn fire(db: &Db, now: Timestamp) -> FiredBatch {
    fire_batch(db, now).await.expect("a batch")
}

async fn an_owner_with_many_due_reminders_does_not_delay_others(database: TestDatabase) {
    let (db, time) = (open(&database).await, Timestamp::from_seconds(1_900_000_000));
    let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    create_reminders(&db, ann, time, 120).await;
    create_reminders(&db, bob, time + Duration::from_secs(1), 1).await;
    assert_eq!(next_due(&db).await.expect("a time"), Some(time));
    assert_eq!(fire(&db, time - Duration::from_micros(1)).await.due, 0);
    let now = time + Duration::from_secs(10);
    let first = fire(&db, now).await;
    assert_eq!((first.on_time, first.changed), (51, vec![ann, bob]), "50 of the first owner, then the other");
    let rest = [fire(&db, now).await, fire(&db, now).await, fire(&db, now).await];
    assert_eq!(rest.map(|batch| batch.on_time), [50, 20, 0]);
    assert_eq!(next_due(&db).await.expect("no time"), None);
    db.close().await;
}

async fn concurrent_replicas_fire_each_reminder_once(database: TestDatabase) {
    let replicas = [open(&database).await, open(&database).await];
    let time = Timestamp::from_seconds(1_900_000_000);
    for owner in 1..=30 {
        create_reminders(&replicas[0], Uuid::from_u128(owner), time, 4).await;
    }
    let late = time + Duration::from_secs(61);
    let fire_all = async |db: &Db| {
        let (mut fired, mut changed) = (0, Vec::new());
        while next_due(db).await.expect("a time").is_some() {
            let batch = fire(db, late).await;
            assert_eq!(batch.on_time, 0);
            fired += batch.late;
            changed.extend(batch.changed);
        }
        (fired, changed)
    };
    let ((first, first_owners), (second, second_owners)) = tokio::join!(fire_all(&replicas[0]), fire_all(&replicas[1]));
    assert_eq!(first + second, 120);
    let mut owners = [first_owners, second_owners].concat();
    owners.sort_unstable();
    assert_eq!(owners, (1..=30).map(Uuid::from_u128).collect::<Vec<_>>());
    for db in replicas {
        db.close().await;
    }
}
