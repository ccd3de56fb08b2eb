//! Wakes watchers when the tasks or lists of an owner change.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{
    db::{self, Db, Engine},
    epoch::CurrentEpoch,
    ops::as_gauge,
    random,
    status::ApiError,
};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use crate::{
    error::quota_exceeded,
    store::{changes, epoch, mutations},
};

pub(crate) mod notification;
pub(crate) mod stream;
pub(crate) mod sync_page;
pub(crate) mod webhook_owners;

use notification::{ChangedOwners, PendingChanges};
use webhook_owners::WebhookOwners;

/// Maximum number of watches of a user at one replica.
const MAX_WATCHES: usize = 8;

/// How often the sequence numbers of all watched owners are read. Changes of this replica, and those of which other
/// replicas send notifications, are read at once.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Notifications within this time are sent, and handled, together.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait after a failure of the database.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Maximum number of owners in one statement.
const MAX_OWNERS: usize = 500;

/// The watched owners of this replica.
#[derive(Debug)]
pub(crate) struct Watches {
    db: Db,
    epoch: CurrentEpoch,
    /// Identifies this replica in its notifications.
    replica: Uuid,
    owners: Mutex<HashMap<Uuid, WatchedOwner>>,
    /// The watched owners with changes by other replicas.
    remote_changes: PendingChanges,
    /// The owners with changes by this replica, of which the others have not been notified.
    local_changes: PendingChanges,
    webhook_owners: WebhookOwners,
}

#[derive(Debug)]
struct WatchedOwner {
    /// The last sequence number that was read, and a wake-up of the watchers.
    last_change: watch::Sender<i64>,
    /// The number of watchers.
    count: usize,
}

impl Watches {
    pub(crate) fn new(db: Db, epoch: CurrentEpoch) -> Self {
        Self {
            db,
            epoch,
            replica: random::id(),
            owners: Mutex::default(),
            remote_changes: PendingChanges::default(),
            local_changes: PendingChanges::default(),
            webhook_owners: WebhookOwners::default(),
        }
    }

    /// Returns the owners with webhooks.
    pub(crate) fn webhook_owners(&self) -> &WebhookOwners {
        &self.webhook_owners
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

    /// Sets the metrics of the watches. Call it regularly.
    pub(crate) fn record_metrics(&self) {
        let (accounts, watches) = {
            let owners = self.owners();
            (owners.len(), owners.values().map(|watched| watched.count).sum())
        };
        metrics::gauge!("taskey_watched_accounts").set(as_gauge(accounts));
        metrics::gauge!("taskey_watches").set(as_gauge(watches));
    }

    /// Notifies the watchers and the webhooks of an owner, at this replica and others, of a change.
    pub(crate) fn notify(&self, owner: Uuid) {
        if let Some(watched) = self.owners().get(&owner) {
            watched.last_change.send_modify(|_| {});
        }
        self.webhook_owners.notify(owner);
        if self.db.engine() == Engine::Postgres {
            self.local_changes.add(owner);
        }
    }

    /// Exchanges notifications with other replicas, and reads the changes that they announce, for as long as it is
    /// awaited.
    pub(crate) async fn run(&self) {
        tokio::join!(
            self.poll(),
            self.announce(),
            self.listen(),
            self.epoch.follow(|| epoch::read(&self.db), || self.wake_all()),
        );
    }

    /// Receives the notifications of other replicas.
    async fn listen(&self) {
        self.db.listen_with(mutations::CHANNEL, |payload| self.receive(payload)).await;
    }

    /// Handles a notification or, without a payload, the loss of notifications.
    fn receive(&self, payload: Option<&str>) {
        match payload.and_then(ChangedOwners::parse) {
            Some((replica, _)) if replica == self.replica => {}
            Some((_, ChangedOwners::Named(changed))) => {
                for owner in &changed {
                    self.webhook_owners.notify(*owner);
                }
                let owners = self.owners();
                let watched = changed.into_iter().filter(|owner| owners.contains_key(owner));
                watched.for_each(|owner| self.remote_changes.add(owner));
            }
            Some((_, ChangedOwners::All)) | None => {
                self.remote_changes.add_all();
                self.webhook_owners.notify_all();
            }
        }
    }

    async fn poll(&self) {
        let mut failing = false;
        loop {
            // Without a notification, all owners are read: a replica may have stopped before it sent one.
            let changed = timeout(POLL_INTERVAL, self.remote_changes.next()).await.unwrap_or(ChangedOwners::All);
            let result = self.read_changes(changed).await;
            if let (Err(error), false) = (&result, failing) {
                tracing::warn!(%error, "cannot read changes for watches");
            }
            failing = result.is_err();
            if failing {
                self.remote_changes.add_all();
            }
            tokio::time::sleep(if failing { RETRY_DELAY } else { BATCH_INTERVAL }).await;
        }
    }

    /// Reads the sequence numbers of those of the owners that are watched, and wakes the watchers of those that have
    /// changed. A sequence number that is lower than before shows that the database has lost mutations.
    async fn read_changes(&self, changed: ChangedOwners) -> Result<(), db::Error> {
        let owners: Vec<Uuid> = match changed {
            ChangedOwners::All => self.owners().keys().copied().collect(),
            ChangedOwners::Named(owners) => owners.into_iter().collect(),
        };
        for owners in owners.chunks(MAX_OWNERS) {
            let read = changes::last_sequences(&self.db, owners).await?;
            if self.has_lost_history(&read).await? {
                self.begin_epoch().await?;
            }
            for (owner, last) in read {
                if let Some(watched) = self.owners().get(&owner) {
                    watched.last_change.send_if_modified(|sequence| std::mem::replace(sequence, last) != last);
                }
            }
        }
        Ok(())
    }

    /// Reports whether a sequence number is lower than the last one that was read. After the deletion of an account they
    /// start again.
    async fn has_lost_history(&self, read: &[(Uuid, i64)]) -> Result<bool, db::Error> {
        for (owner, last) in read {
            let known = self.owners().get(owner).map(|watched| *watched.last_change.borrow());
            if known.is_some_and(|known| *last < known) && !changes::is_removed(&self.db, *owner).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins a new epoch of the database, unless another replica has done so.
    async fn begin_epoch(&self) -> Result<(), db::Error> {
        if self.epoch.set(epoch::renew(&self.db, self.epoch.get(), random::id()).await?) {
            self.wake_all();
        }
        Ok(())
    }

    /// Wakes all watchers after the beginning of an epoch, so that their streams end. Earlier sequence numbers are
    /// forgotten, so that one loss of history begins one epoch.
    fn wake_all(&self) {
        self.owners().values().for_each(|watched| watched.last_change.send_modify(|sequence| *sequence = 0));
    }

    /// Notifies other replicas, in batches and outside of the transactions of writes: on `PostgreSQL`, commits with
    /// notifications wait for each other.
    async fn announce(&self) {
        loop {
            let changed = self.local_changes.next().await;
            let mut delay = BATCH_INTERVAL;
            for payload in changed.to_payloads(self.replica) {
                if let Err(error) = mutations::notify(&self.db, payload).await {
                    tracing::debug!(%error, "the other replicas were not notified");
                    self.local_changes.add_all();
                    delay = RETRY_DELAY;
                    break;
                }
            }
            tokio::time::sleep(delay).await;
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

    /// Waits until the tasks or lists of the owner may have changed since the last call.
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

#[cfg(test)]
mod tests;
