//! Wakes watchers when the tasks of an owner change.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{db::Db, status::ApiError};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    error::quota_exceeded,
    store::{changes, mutations},
};

pub(crate) mod stream;
pub(crate) mod sync_page;

/// Maximum number of watches of a user at one replica.
const MAX_WATCHES: usize = 8;

/// How often the sequence numbers of the watched owners are read if there is no notification.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Notifications within this time are sent together.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum number of owners in one statement.
const MAX_OWNERS: usize = 500;

/// The watched owners of this replica.
#[derive(Debug)]
pub(crate) struct Watches {
    db: Db,
    owners: Mutex<HashMap<Uuid, WatchedOwner>>,
    /// Another replica has sent a notification.
    remote_change: Notify,
    /// This replica has a notification to send.
    local_change: Notify,
}

#[derive(Debug)]
struct WatchedOwner {
    /// The last sequence number that was read, and a wake-up of the watchers.
    last_change: watch::Sender<i64>,
    /// The number of watchers.
    count: usize,
}

impl Watches {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, owners: Mutex::default(), remote_change: Notify::new(), local_change: Notify::new() }
    }

    /// Starts to watch an owner.
    ///
    /// # Errors
    /// QUOTA_EXCEEDED if the owner has too many watches.
    pub(crate) fn watch(self: &Arc<Self>, owner: Uuid) -> Result<Watch, ApiError> {
        let mut owners = self.owners();
        let watched =
            owners.entry(owner).or_insert_with(|| WatchedOwner { last_change: watch::Sender::new(0), count: 0 });
        if watched.count >= MAX_WATCHES {
            return Err(quota_exceeded("the caller already has 8 streams open at this replica"));
        }
        watched.count += 1;
        Ok(Watch { owner, last_change: watched.last_change.subscribe(), watches: Arc::clone(self) })
    }

    /// Notifies the watchers of an owner, at this replica and others, of a change.
    pub(crate) fn notify(&self, owner: Uuid) {
        if let Some(watched) = self.owners().get(&owner) {
            watched.last_change.send_modify(|_| {});
        }
        self.local_change.notify_one();
    }

    /// Exchanges notifications with other replicas for as long as it is awaited.
    pub(crate) async fn run(&self) {
        tokio::join!(
            self.poll(),
            self.announce(),
            self.db.listen(mutations::CHANNEL, || self.remote_change.notify_one()),
        );
    }

    async fn poll(&self) {
        let mut failing = false;
        loop {
            // A wake-up and a timeout are handled alike.
            _ = timeout(POLL_INTERVAL, self.remote_change.notified()).await;
            let result = self.read_changes().await;
            if let (Err(error), false) = (&result, failing) {
                tracing::warn!(%error, "cannot read changes for watches");
            }
            failing = result.is_err();
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }

    async fn read_changes(&self) -> Result<(), service_kit::db::Error> {
        let owners: Vec<Uuid> = self.owners().keys().copied().collect();
        for owners in owners.chunks(MAX_OWNERS) {
            for (owner, last) in changes::last_sequences(&self.db, owners).await? {
                if let Some(watched) = self.owners().get(&owner) {
                    watched.last_change.send_if_modified(|sequence| std::mem::replace(sequence, last) != last);
                }
            }
        }
        Ok(())
    }

    /// Notifies other replicas, in batches and outside of the transactions of writes: on `PostgreSQL`, commits with
    /// notifications wait for each other.
    async fn announce(&self) {
        loop {
            self.local_change.notified().await;
            // A notification is a hint: replicas that miss it poll.
            if let Err(error) = mutations::notify(&self.db).await {
                tracing::debug!(%error, "the other replicas were not notified");
            }
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }

    // Locked for a lookup, never across an await.
    fn owners(&self) -> MutexGuard<'_, HashMap<Uuid, WatchedOwner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watch {
    owner: Uuid,
    last_change: watch::Receiver<i64>,
    watches: Arc<Watches>,
}

impl Watch {
    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Waits until the tasks of the owner may have changed since the last call.
    pub(crate) async fn changed(&mut self) {
        // The sender exists as long as there is a watcher.
        _ = self.last_change.changed().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Entry::Occupied(mut watched) = self.watches.owners().entry(self.owner) {
            watched.get_mut().count -= 1;
            if watched.get().count == 0 {
                watched.remove();
            }
        }
    }
}
