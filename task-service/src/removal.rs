//! What happens to the tasks of accounts that have been deleted: they go for good.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{self, Db},
    random,
    revocation::deletion::DeletedUsers,
};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use crate::store::sweep;

/// For so long an owner stays listed after it was heard of, and is swept once more before it is forgotten: a call that
/// was under way, or a token that was honoured because revocations could not be heard, may have made another task after
/// the first sweep. The longest life of a token is 15 minutes, the longest staleness 15 more; the rest is slack.
pub(crate) const STAYS_LISTED: Duration = Duration::from_secs(3600);

/// How often it is looked for owners whose time has come, if nothing is heard before.
const EVERY: Duration = Duration::from_secs(600);

/// How many owners are read at once, and how many rows go with one statement, so that no other write waits long.
const BATCH: i64 = 500;

/// Waits after a failure grow from the first to the last, each with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Hears which accounts have been deleted, and removes what they owned. Several replicas may do so at once.
#[derive(Debug)]
pub(crate) struct Removal {
    db: Db,
    clock: Clock,
    heard: Notify,
}

impl Removal {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, heard: Notify::new() }
    }

    /// Sweeps now, whenever something was heard and now and then, for as long as it is awaited.
    pub(crate) async fn run(&self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.sweep().await {
                Ok(removed) => {
                    if removed > 0 {
                        tracing::info!(removed, "removed what deleted accounts had owned");
                    }
                    wait = FIRST_WAIT;
                    // Whether something was heard or the time has come, the next step is the same.
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

    /// Removes what all owners own who are due, and says how many rows there were.
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

    /// Removes what an owner owns, batch by batch.
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
impl DeletedUsers for Removal {
    async fn place(&self) -> anyhow::Result<i64> {
        Ok(sweep::last_deletion(&self.db).await?)
    }

    async fn hear(&self, users: Vec<Uuid>, place: i64) -> anyhow::Result<()> {
        sweep::add_removed_owners(&self.db, self.clock.now(), users, place).await?;
        self.heard.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use service_kit::{args, clock::Timestamp, on_each_database, testing::TestDatabase};

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
        let replicas = [open(&database).await, open(&database).await].map(|db| Removal::new(db, clock.clone()));
        let owners: Vec<_> = (0..40).map(|_| clock.new_id()).collect();
        for round in 1..=3 {
            for owner in &owners {
                make(&replicas[0].db, &clock, *owner, 40).await;
            }
            delete_all(&replicas[0].db).await;
            // Each hears of some alone and of some together with the other, in another order.
            let backwards = owners.iter().rev().take(30).copied().collect();
            let (one, other) =
                tokio::join!(replicas[0].hear(owners[..30].to_vec(), round), replicas[1].hear(backwards, round));
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
        Removal::new(db.clone(), clock.clone()).hear(vec![owner, owner], 7).await.expect("heard");
        let removal = Removal::new(db.clone(), clock);
        assert_eq!(removal.place().await.expect("a place"), 7);
        // The task, its list and the counter.
        assert_eq!(removal.sweep().await.expect("a sweep"), 3);
        db.close().await;
    }

    async fn who_is_heard_of_again_is_swept_anew(database: TestDatabase) {
        let (clock, hands) = service_kit::testing::clock();
        let removal = Removal::new(open(&database).await, clock.clone());
        let (db, owner) = (&removal.db, clock.new_id());
        removal.hear(vec![owner], 1).await.expect("heard");
        removal.sweep().await.expect("a sweep");
        assert!(due(db, clock.now()).await.is_empty());
        hands.advance(STAYS_LISTED);
        assert_eq!(due(db, clock.now()).await, [owner]);

        removal.hear(vec![owner], 1).await.expect("heard");
        removal.sweep().await.expect("a sweep");
        assert_eq!(due(db, clock.now() + STAYS_LISTED).await, [owner], "it begins anew");
        // However late the sweeps come, there are two.
        removal.hear(vec![owner], 1).await.expect("heard");
        hands.advance(3 * STAYS_LISTED);
        removal.sweep().await.expect("a sweep");
        assert!(due(db, clock.now() + 9 * STAYS_LISTED).await.is_empty());
        db.close().await;
    }
}
