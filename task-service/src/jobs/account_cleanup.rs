//! Deletes the tasks of deleted accounts permanently.

use std::time::Duration;

use service_kit::{
    auth::revocation::deletion::DeletedUsers,
    clock::Clock,
    db::{self, Db},
    random,
};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use super::sweep;

/// How often owners that are due are read, if no deleted account is received.
const EVERY: Duration = Duration::from_secs(600);

/// Maximum number of owners per read and of rows per statement, so that other writes do not wait long.
const BATCH: i64 = 500;

/// Delays after failures grow from the first to the last, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Receives deleted accounts and deletes what they owned. Several replicas may do so at the same time.
#[derive(Debug)]
pub(crate) struct AccountCleanup {
    db: Db,
    clock: Clock,
    heard: Notify,
}

impl AccountCleanup {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, heard: Notify::new() }
    }

    /// Deletes tasks now, whenever an account is received, and periodically, for as long as it is awaited.
    pub(crate) async fn run(&self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.sweep().await {
                Ok(removed) => {
                    if removed > 0 {
                        tracing::info!(removed, "removed what deleted accounts had owned");
                    }
                    wait = FIRST_WAIT;
                    // A wake-up and a timeout are handled alike.
                    _ = timeout(random::jitter(EVERY), self.heard.notified()).await;
                }
                Err(error) => {
                    if wait == FIRST_WAIT {
                        tracing::warn!(%error, "what deleted accounts had owned cannot be removed");
                    }
                    tokio::time::sleep(random::jitter(wait)).await;
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
    }

    /// Deletes everything of the owners that are due, and returns the number of rows.
    async fn sweep(&self) -> Result<u64, db::Error> {
        let (now, mut removed) = (self.clock.now(), 0);
        loop {
            let owners = sweep::due_owners(&self.db, now, BATCH).await?;
            if owners.is_empty() {
                return Ok(removed);
            }
            for owner in &owners {
                removed += self.remove(*owner).await?;
            }
            sweep::finish_owners(&self.db, now, owners).await?;
        }
    }

    /// Deletes everything of an owner, in batches.
    async fn remove(&self, owner: Uuid) -> Result<u64, db::Error> {
        let mut removed = 0;
        for statement in sweep::DELETE_OWNED {
            loop {
                let batch = sweep::delete_owned(&self.db, statement, owner, BATCH).await?;
                removed += batch;
                if batch < BATCH.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

#[tonic::async_trait]
impl DeletedUsers for AccountCleanup {
    async fn sequence(&self) -> anyhow::Result<i64> {
        Ok(sweep::last_deletion(&self.db).await?)
    }

    async fn receive(&self, users: Vec<Uuid>, sequence: i64) -> anyhow::Result<()> {
        sweep::add_removed_owners(&self.db, self.clock.now(), users, sequence).await?;
        self.heard.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use service_kit::{args, clock::Timestamp, on_each_database, testing::TestDatabase};

    use super::super::sweep::STAYS_LISTED;
    use super::*;
    use crate::store::tests::{create_with_id, open};

    on_each_database!(
        of_two_replicas_that_remove_at_once_neither_fails,
        what_was_heard_and_not_removed_is_removed_after_a_restart,
        who_is_heard_of_again_is_swept_anew,
    );

    async fn make(db: &Db, clock: &Clock, owner: Uuid, count: usize) {
        join_all((0..count).map(async |_| {
            create_with_id(db, owner, clock.new_id()).await.expect("a task is made");
        }))
        .await;
    }

    /// Has all tasks be due for the purge, which meets them in another order than the removal does.
    async fn delete_all(db: &Db) {
        const SQL: &str = "update tasks set delete_time = 1, purge_time = create_time % 1000003 * 7919 % 1000003";
        db.execute(SQL, args![]).await.expect("the tasks are deleted");
    }

    /// The owners that are due at an instant.
    async fn due(db: &Db, at: Timestamp) -> Vec<Uuid> {
        sweep::due_owners(db, at, BATCH).await.expect("the owners are read")
    }

    async fn of_two_replicas_that_remove_at_once_neither_fails(database: TestDatabase) {
        let clock = Clock::system();
        let replicas = [open(&database).await, open(&database).await].map(|db| AccountCleanup::new(db, clock.clone()));
        let owners: Vec<_> = (0..40).map(|_| clock.new_id()).collect();
        for round in 1..=3 {
            for owner in &owners {
                make(&replicas[0].db, &clock, *owner, 40).await;
            }
            delete_all(&replicas[0].db).await;
            // Each hears of some alone and of some together with the other, in another order.
            let backwards = owners.iter().rev().take(30).copied().collect();
            let (one, other) =
                tokio::join!(replicas[0].receive(owners[..30].to_vec(), round), replicas[1].receive(backwards, round));
            one.and(other).expect("both hear");
            let purge = sweep::purge(&replicas[0].db, clock.now(), BATCH);
            let (one, other, purged) = tokio::join!(replicas[0].sweep(), replicas[1].sweep(), purge);
            let removed = one.expect("a sweep") + other.expect("a sweep") + purged.expect("a purge");
            // The lists and the counters of the owners go with their tasks.
            assert!(removed >= 1600, "round {round}: {removed}");
        }
        for replica in replicas {
            replica.db.close().await;
        }
    }

    async fn what_was_heard_and_not_removed_is_removed_after_a_restart(database: TestDatabase) {
        let (db, clock) = (open(&database).await, Clock::system());
        let owner = clock.new_id();
        make(&db, &clock, owner, 1).await;
        AccountCleanup::new(db.clone(), clock.clone()).receive(vec![owner, owner], 7).await.expect("heard");
        let removal = AccountCleanup::new(db.clone(), clock);
        assert_eq!(removal.sequence().await.expect("a number"), 7);
        // The task, its list and the counter.
        assert_eq!(removal.sweep().await.expect("a sweep"), 3);
        db.close().await;
    }

    async fn who_is_heard_of_again_is_swept_anew(database: TestDatabase) {
        let (clock, hands) = service_kit::testing::clock();
        let removal = AccountCleanup::new(open(&database).await, clock.clone());
        let (db, owner) = (&removal.db, clock.new_id());
        removal.receive(vec![owner], 1).await.expect("heard");
        removal.sweep().await.expect("a sweep");
        assert!(due(db, clock.now()).await.is_empty());
        hands.advance(STAYS_LISTED);
        assert_eq!(due(db, clock.now()).await, [owner]);

        removal.receive(vec![owner], 1).await.expect("heard");
        removal.sweep().await.expect("a sweep");
        assert_eq!(due(db, clock.now() + STAYS_LISTED).await, [owner], "it begins anew");
        // However late the sweeps come, there are two.
        removal.receive(vec![owner], 1).await.expect("heard");
        hands.advance(3 * STAYS_LISTED);
        removal.sweep().await.expect("a sweep");
        assert!(due(db, clock.now() + 9 * STAYS_LISTED).await.is_empty());
        db.close().await;
    }
}
