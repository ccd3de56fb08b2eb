//! What happens to deleted tasks in the end: they go for good.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{self, Db},
};

use super::sweep;
use crate::store::transaction::RETENTION;

/// How often it is looked for tasks whose time has come. They answer as missing from that time on in any case.
const EVERY: Duration = Duration::from_secs(3600);

/// How many go with one statement, so that no other write waits long.
const BATCH: i64 = 500;

/// For so long it is remembered which tasks are gone for good: whoever has not asked for changes since begins anew.
const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Purges now and every hour, for as long as it is awaited.
pub(crate) async fn repeat(db: &Db, clock: &Clock) {
    let mut interval = tokio::time::interval(EVERY);
    loop {
        interval.tick().await;
        let now = clock.now();
        batches("deleted tasks", || sweep::purge(db, now, BATCH)).await;
        batches("what is known of purged tasks", || sweep::forget_removed(db, now - REMOVED_KEPT, BATCH)).await;
        batches("answers to requests", || sweep::forget_requests(db, now - RETENTION, BATCH)).await;
        batches("tasks without what is searched", || sweep::backfill(db, BATCH)).await;
    }
}

/// Has batch after batch be done until one is not full, and says how much it was in all.
async fn batches<F: Future<Output = Result<u64, db::Error>>>(what: &str, batch: impl Fn() -> F) -> u64 {
    let mut count = 0;
    loop {
        match batch().await {
            Ok(done) => {
                count += done;
                if done < BATCH.unsigned_abs() {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(%error, what, "could not be swept; the next try is in an hour");
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
    use service_kit::{on_each_database, testing::TestDatabase};

    use super::*;
    use crate::{
        model::{Target, write::Write},
        store::{
            tasks,
            tests::{create_with_id, open, perform_at},
        },
    };

    on_each_database!(all_tasks_go_whose_time_has_come_and_no_others);

    async fn all_tasks_go_whose_time_has_come_and_no_others(database: TestDatabase) {
        // Two full batches, and one more.
        const DUE: usize = 1001;
        let (db, clock) = (open(&database).await, Clock::system());
        let (owner, now) = (clock.new_id(), clock.now());
        let hour = Duration::from_secs(3600);
        let targets: Vec<_> = (0..DUE + 2).map(|_| Target { id: clock.new_id(), revision: None }).collect();
        join_all(targets.iter().map(async |target| {
            create_with_id(&db, owner, target.id).await.expect("a task is made");
        }))
        .await;
        let ([live, later], due) = targets.split_first_chunk().expect("there are more");
        let delete = async |target: Target, at| {
            let write = Write::Delete { target, allow_missing: false };
            perform_at(&db, owner, at, write, clock.new_id()).await.expect("a task is deleted");
        };
        delete(*later, now + hour).await;
        join_all(due.iter().map(|target| delete(*target, now))).await;
        let purge = async |at| batches("", || sweep::purge(&db, at, BATCH)).await;

        assert_eq!(purge(now).await, 0);
        assert_eq!(purge(now + hour).await, due.len() as u64);

        // Asked as of an earlier time, so that the answer tells what is stored.
        assert!(tasks::get(&db, owner, now, due[0].id).await.is_err());
        for left in [live, later] {
            tasks::get(&db, owner, now, left.id).await.expect("not purged");
        }
        db.close().await;
    }
}
