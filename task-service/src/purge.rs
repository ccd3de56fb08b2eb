//! What happens to deleted tasks in the end: they go for good.

use std::time::Duration;

use service_kit::{
    clock::{Clock, Timestamp},
    db::{self, Db},
};

use crate::store::sweep;

/// How often it is looked for tasks whose time has come. They answer as missing from that time on in any case.
const EVERY: Duration = Duration::from_secs(3600);

/// How many go with one statement, so that no other write waits long.
const BATCH: i64 = 500;

/// Purges now and every hour, for as long as it is awaited.
pub(crate) async fn repeat(db: &Db, clock: &Clock) {
    let mut interval = tokio::time::interval(EVERY);
    loop {
        interval.tick().await;
        match purge(db, clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged deleted tasks"),
            Err(error) => tracing::warn!(%error, "deleted tasks could not be purged; the next try is in an hour"),
        }
    }
}

/// Purges every task whose time has come by `now`, and says how many.
async fn purge(db: &Db, now: Timestamp) -> Result<u64, db::Error> {
    let mut count = 0;
    loop {
        let purged = sweep::purge(db, now, BATCH).await?;
        count += purged;
        if purged < BATCH.unsigned_abs() {
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use service_kit::{on_each_database, testing::TestDatabase};

    use super::*;
    use crate::{
        model::Target,
        store::{
            self,
            tests::{create_with_id, open},
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
        store::delete(&db, owner, now, *later, now + hour + hour, false).await.expect("a task is deleted");
        join_all(due.iter().map(async |target| {
            store::delete(&db, owner, now, *target, now + hour, false).await.expect("a task is deleted");
        }))
        .await;

        assert_eq!(purge(&db, now).await.expect("nothing to purge"), 0);
        assert_eq!(purge(&db, now + hour).await.expect("a purge"), due.len() as u64);

        // Asked as of an earlier time, so that the answer tells what is stored.
        assert!(store::get(&db, owner, now, due[0].id).await.is_err());
        for left in [live, later] {
            store::get(&db, owner, now, left.id).await.expect("not purged");
        }
        db.close().await;
    }
}
