//! Receives the changes of accounts, and permanently deletes the data of deleted ones.

use std::time::Duration;

use service_kit::{
    auth::revocation::user_changes::{UserChangePage, UserChangeStore},
    clock::Clock,
    db::{self, Db},
    random,
};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use super::{removed_owners, user_changes};

/// How often due owners are swept if no change of an account is received.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Maximum number of owners per read and of rows per statement, so that other writes do not wait long.
const BATCH: i64 = 500;

/// The delay after failures doubles from the minimum to the maximum, with jitter.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Receives the changes of accounts, and deletes the data of deleted ones. Several replicas may do so at the same time.
#[derive(Debug)]
pub(crate) struct AccountCleanup {
    db: Db,
    clock: Clock,
    received: Notify,
}

impl AccountCleanup {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, received: Notify::new() }
    }

    /// Sweeps now, whenever changes are received, and periodically, for as long as it is awaited.
    pub(crate) async fn run(&self) {
        let mut backoff = MIN_BACKOFF;
        loop {
            match self.sweep().await {
                Ok(removed) => {
                    if removed > 0 {
                        tracing::info!(removed, "deleted the data of deleted accounts");
                    }
                    backoff = MIN_BACKOFF;
                    // A wake-up and a timeout are handled alike.
                    _ = timeout(random::jitter(SWEEP_INTERVAL), self.received.notified()).await;
                }
                Err(error) => {
                    if backoff == MIN_BACKOFF {
                        tracing::warn!(%error, "cannot delete the data of deleted accounts");
                    }
                    tokio::time::sleep(random::jitter(backoff)).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// Deletes all rows of the due owners, and returns their number.
    async fn sweep(&self) -> Result<u64, db::Error> {
        let (now, mut removed) = (self.clock.now(), 0);
        loop {
            let owners = removed_owners::due_owners(&self.db, now, BATCH).await?;
            if owners.is_empty() {
                return Ok(removed);
            }
            for owner in &owners {
                removed += self.remove(*owner).await?;
            }
            removed_owners::finish_owners(&self.db, now, owners).await?;
        }
    }

    /// Deletes all rows of an owner, in batches, and returns their number.
    async fn remove(&self, owner: Uuid) -> Result<u64, db::Error> {
        let mut removed = 0;
        loop {
            let (batch, is_complete) = removed_owners::delete_owned(&self.db, owner, BATCH).await?;
            removed += batch;
            if is_complete {
                return Ok(removed);
            }
        }
    }
}

#[tonic::async_trait]
impl UserChangeStore for AccountCleanup {
    async fn sequence(&self) -> anyhow::Result<i64> {
        Ok(user_changes::sequence(&self.db).await?)
    }

    async fn receive(&self, page: UserChangePage) -> anyhow::Result<()> {
        user_changes::receive(&self.db, self.clock.now(), page).await?;
        self.received.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use service_kit::{
        args,
        auth::revocation::user_changes::{UserChange, UserState},
        clock::Timestamp,
        on_each_database,
        testing::TestDatabase,
    };

    use super::{
        super::{removed_owners::SECOND_SWEEP_DELAY, sweep},
        *,
    };
    use crate::store::tests::{create_with_id, open};

    on_each_database!(
        concurrent_sweeps_of_two_replicas_succeed,
        received_accounts_are_removed_after_a_restart,
        an_account_that_is_received_again_is_swept_again,
    );

    /// Returns a page that follows the sequence number `after`, and says that these accounts were deleted.
    fn deletions(after: i64, users: impl IntoIterator<Item = Uuid>) -> UserChangePage {
        let deleted = |user_id| UserChange { user_id, state: UserState::Deleted };
        UserChangePage { changes: users.into_iter().map(deleted).collect(), after, sequence: after + 1 }
    }

    async fn create_tasks(db: &Db, clock: &Clock, owner: Uuid, count: usize) {
        join_all((0..count).map(async |_| {
            create_with_id(db, owner, clock.new_id()).await.expect("the task is created");
        }))
        .await;
    }

    /// Makes all tasks due for the purge, which deletes them in another order than the cleanup.
    async fn delete_all(db: &Db) {
        const SQL: &str = "update tasks set delete_time = 1, purge_time = create_time % 1000003 * 7919 % 1000003";
        db.execute(SQL, args![]).await.expect("the tasks are deleted");
    }

    /// Returns the owners that are due at an instant.
    async fn due_owners(db: &Db, at: Timestamp) -> Vec<Uuid> {
        removed_owners::due_owners(db, at, BATCH).await.expect("the owners are read")
    }

    async fn concurrent_sweeps_of_two_replicas_succeed(database: TestDatabase) {
        let clock = Clock::system();
        let replicas = [open(&database).await, open(&database).await].map(|db| AccountCleanup::new(db, clock.clone()));
        let owners: Vec<_> = (0..40).map(|_| clock.new_id()).collect();
        for round in 0..3 {
            for owner in &owners {
                create_tasks(&replicas[0].db, &clock, *owner, 40).await;
            }
            delete_all(&replicas[0].db).await;
            // Both replicas receive the first page. Some accounts are also on the second one, in another order.
            let first_page = deletions(2 * round, owners[..30].iter().copied());
            let (first, second) =
                tokio::join!(replicas[0].receive(first_page.clone()), replicas[1].receive(first_page.clone()));
            first.and(second).expect("both receive the accounts");
            let second_page = deletions(2 * round + 1, owners.iter().rev().take(30).copied());
            let (first, second, swept) =
                tokio::join!(replicas[0].receive(first_page), replicas[1].receive(second_page), replicas[0].sweep());
            first.and(second).expect("both receive the accounts");
            let purge = sweep::purge(&replicas[0].db, clock.now(), BATCH);
            let (first, second, purged) = tokio::join!(replicas[0].sweep(), replicas[1].sweep(), purge);
            let removed = [swept, first, second, purged].map(|result| result.expect("a sweep")).iter().sum::<u64>();
            // 40 tasks of each of 40 owners. Lists and counters are deleted too.
            assert!(removed >= 1600, "round {round}: {removed}");
        }
        for replica in replicas {
            replica.db.close().await;
        }
    }

    async fn received_accounts_are_removed_after_a_restart(database: TestDatabase) {
        let (db, clock) = (open(&database).await, Clock::system());
        let owner = clock.new_id();
        create_tasks(&db, &clock, owner, 1).await;
        AccountCleanup::new(db.clone(), clock.clone()).receive(deletions(0, [owner, owner])).await.expect("received");
        let cleanup = AccountCleanup::new(db.clone(), clock);
        assert_eq!(cleanup.sequence().await.expect("a sequence number"), 1);
        // The task, the entry of its history, its list and the counter.
        assert_eq!(cleanup.sweep().await.expect("a sweep"), 4);
        db.close().await;
    }

    async fn an_account_that_is_received_again_is_swept_again(database: TestDatabase) {
        let (clock, manual_clock) = service_kit::testing::clock();
        let cleanup = AccountCleanup::new(open(&database).await, clock.clone());
        let (db, owner) = (&cleanup.db, clock.new_id());
        cleanup.receive(deletions(0, [owner])).await.expect("received");
        cleanup.sweep().await.expect("a sweep");
        assert!(due_owners(db, clock.now()).await.is_empty());
        manual_clock.advance(SECOND_SWEEP_DELAY);
        assert_eq!(due_owners(db, clock.now()).await, [owner]);

        cleanup.receive(deletions(1, [owner])).await.expect("received");
        cleanup.sweep().await.expect("a sweep");
        assert_eq!(due_owners(db, clock.now() + SECOND_SWEEP_DELAY).await, [owner], "a second sweep follows");
        // If the first sweep is this late, the second one follows immediately.
        cleanup.receive(deletions(2, [owner])).await.expect("received");
        manual_clock.advance(3 * SECOND_SWEEP_DELAY);
        cleanup.sweep().await.expect("a sweep");
        assert!(due_owners(db, clock.now() + 9 * SECOND_SWEEP_DELAY).await.is_empty());
        db.close().await;
    }
}
