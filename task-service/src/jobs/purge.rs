//! Purges deleted tasks, and deletes other data that has expired.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{self, Db},
};

use super::{backfill, history, sweep};
use crate::{
    model::webhook::ATTEMPT_RETENTION,
    store::{transaction::RETENTION, webhook_attempts},
};

/// How often tasks are purged. Callers cannot read a task after its purge time, even if it has not been purged yet.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// Maximum number of rows per statement, so that other writes do not wait long.
const BATCH: i64 = 500;

/// How long tombstones of purged tasks are stored. Clients with an older sync token start again without one.
const TOMBSTONE_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Purges now and every hour, for as long as it is awaited.
pub(crate) async fn run(db: &Db, clock: &Clock) {
    let mut interval = tokio::time::interval(PURGE_INTERVAL);
    loop {
        interval.tick().await;
        let now = clock.now();
        run_batches("deleted tasks", || sweep::purge(db, now, BATCH)).await;
        run_batches("tombstones", || sweep::delete_tombstones(db, now - TOMBSTONE_RETENTION, BATCH)).await;
        run_batches("entries of task histories", || history::delete_expired(db, now, BATCH)).await;
        run_batches("stored responses", || sweep::delete_responses(db, now - RETENTION, BATCH)).await;
        run_batches("lists that older programs have created", || backfill::add_lists_to_feed(db, BATCH)).await;
        run_batches("tasks without a search text", || backfill::fold_texts(db, BATCH)).await;
        run_batches("tasks without the keys of their labels", || backfill::fold_labels(db, BATCH)).await;
        run_batches("webhook attempts", || webhook_attempts::delete_before(db, now - ATTEMPT_RETENTION, BATCH)).await;
    }
}

/// Executes batches until one is not full. Returns and logs the total number of rows.
async fn run_batches<F: Future<Output = Result<u64, db::Error>>>(what: &str, batch: impl Fn() -> F) -> u64 {
    let mut count = 0;
    loop {
        match batch().await {
            Ok(rows) => {
                count += rows;
                if rows < BATCH.unsigned_abs() {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(%error, what, "sweep failed; the next attempt is in an hour");
                break;
            }
        }
    }
    if count > 0 {
        tracing::info!(count, what, "swept");
    }
    count
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use service_kit::{args, on_each_database, testing::TestDatabase};

    use super::*;
    use crate::{
        model::{Target, sync::SyncPoint, write::Write},
        store::{
            changes, tasks,
            tests::{create_with_id, execute_at, open, storage::count_rows},
        },
    };

    on_each_database!(exactly_the_due_tasks_are_purged, lists_of_older_programs_are_added_to_the_feed);

    async fn lists_of_older_programs_are_added_to_the_feed(database: TestDatabase) {
        const INSERT: &str = "
            insert into task_lists (owner_id, id, title, create_time, update_time, revision)
            values ($1, $2, 'Work', 1, 1, 1)";
        let (db, clock) = (open(&database).await, Clock::system());
        let (owner, list, now) = (clock.new_id(), clock.new_id(), clock.now());
        create_with_id(&db, owner, clock.new_id()).await.expect("the task is created");
        let read = async |since| changes::list_after(&db, owner, now, since, 10).await.expect("a page");
        let before = read(None).await;
        let since = SyncPoint::end(before.since.epoch, before.last);
        db.execute(INSERT, args![owner, list]).await.expect("the list is created");
        assert!(read(None).await.changes.iter().any(|change| change.id() == list), "a client that starts receives it");
        assert!(read(Some(since)).await.changes.is_empty());

        let add = async || run_batches("", || backfill::add_lists_to_feed(&db, BATCH)).await;
        assert_eq!((add().await, add().await), (1, 0));
        assert_eq!(read(Some(since)).await.changes.iter().map(changes::Change::id).collect::<Vec<_>>(), [list]);
        db.close().await;
    }

    async fn exactly_the_due_tasks_are_purged(database: TestDatabase) {
        // Two full batches, and one more.
        const DUE: i64 = 1001;
        let (db, clock) = (open(&database).await, Clock::system());
        let (owner, now) = (clock.new_id(), clock.now());
        let hour = Duration::from_secs(3600);
        let targets: Vec<_> = (0..DUE + 2).map(|_| Target::new(clock.new_id(), "")).collect();
        join_all(targets.iter().map(async |target| {
            create_with_id(&db, owner, target.id).await.expect("the task is created");
        }))
        .await;
        let ([active, later], due) = targets.split_first_chunk().expect("there are more");
        let delete = async |target: Target, at| {
            let write = Write::Delete { target, allow_missing: false };
            execute_at(&db, owner, at, write, clock.new_id()).await.expect("the task is deleted");
        };
        delete(*later, now + hour).await;
        join_all(due.iter().map(|target| delete(*target, now))).await;
        let purge = async |at| run_batches("", || sweep::purge(&db, at, BATCH)).await;

        assert_eq!(purge(now).await, 0);
        assert_eq!(purge(now + hour).await, DUE.unsigned_abs());

        // Read as of a time before the purge time, so that the result shows what is stored.
        assert!(tasks::get(&db, owner, now, due[0].id).await.is_err());
        assert_eq!(count_rows(&db, owner).await, (2, DUE));
        let forgotten = run_batches("", || sweep::delete_tombstones(&db, now + 2 * hour, BATCH)).await;
        assert_eq!(forgotten, DUE.unsigned_abs());
        assert_eq!(count_rows(&db, owner).await, (2, 0));
        for target in [active, later] {
            tasks::get(&db, owner, now, target.id).await.expect("not purged");
        }
        db.close().await;
    }
}
