//! Who watches whose tasks, and when they are told to look.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{db::Db, status::Refusal};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    error::quota_exceeded,
    store::{changes, mutations},
};

/// A user may watch so many times at one replica.
const MAX_WATCHES: usize = 8;

/// How often the database is asked about those who are watched, if nobody announces anything.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// What is announced within this time is announced at once.
const GATHER: Duration = Duration::from_millis(10);

/// How many owners one statement asks about.
const CHUNK: usize = 500;

/// The watched owners of this replica.
#[derive(Debug)]
pub(crate) struct Watches {
    db: Db,
    owners: Mutex<HashMap<Uuid, Watched>>,
    /// Another replica has announced something.
    heard: Notify,
    /// This replica has something to announce.
    done: Notify,
}

#[derive(Debug)]
struct Watched {
    last_change: watch::Sender<i64>,
    count: usize,
}

impl Watches {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, owners: Mutex::default(), heard: Notify::new(), done: Notify::new() }
    }

    /// Begins to watch an owner.
    ///
    /// # Errors
    /// QUOTA_EXCEEDED if that is done too often already.
    pub(crate) fn watch(self: &Arc<Self>, owner: Uuid) -> Result<Watch, Refusal> {
        let mut owners = self.owners();
        let watched = owners.entry(owner).or_insert_with(|| Watched { last_change: watch::Sender::new(0), count: 0 });
        if watched.count >= MAX_WATCHES {
            return Err(quota_exceeded("the tasks are watched 8 times already"));
        }
        watched.count += 1;
        Ok(Watch { owner, last_change: watched.last_change.subscribe(), watches: Arc::clone(self) })
    }

    /// Tells those who watch an owner that something was done here, and the other replicas too.
    pub(crate) fn tell(&self, owner: Uuid) {
        if let Some(watched) = self.owners().get(&owner) {
            watched.last_change.send_modify(|_| {});
        }
        self.done.notify_one();
    }

    /// Keeps those who watch informed of what other replicas do, and these of what this one does, for as long as it is
    /// awaited.
    pub(crate) async fn run(&self) {
        tokio::join!(self.poll(), self.announce(), self.db.listen(mutations::CHANNEL, || self.heard.notify_one()));
    }

    async fn poll(&self) {
        let mut failing = false;
        loop {
            // Whether it was woken or the time has come, the next step is the same.
            _ = timeout(POLL_EVERY, self.heard.notified()).await;
            let asked = self.look().await;
            if let (Err(error), false) = (&asked, failing) {
                tracing::warn!(%error, "those who watch cannot be told what changes");
            }
            failing = asked.is_err();
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn look(&self) -> Result<(), service_kit::db::Error> {
        let owners: Vec<Uuid> = self.owners().keys().copied().collect();
        for owners in owners.chunks(CHUNK) {
            for (owner, last) in changes::last_sequences(&self.db, owners).await? {
                if let Some(watched) = self.owners().get(&owner) {
                    watched.last_change.send_if_modified(|known| std::mem::replace(known, last) != last);
                }
            }
        }
        Ok(())
    }

    /// Announcements are gathered, and are not a part of the transactions: on `PostgreSQL` they would wait for each other.
    async fn announce(&self) {
        loop {
            self.done.notified().await;
            // It is a hint: who misses it polls.
            if let Err(error) = mutations::notify(&self.db).await {
                tracing::debug!(%error, "the other replicas were not told");
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    // Held for a lookup, never across an await.
    fn owners(&self) -> MutexGuard<'_, HashMap<Uuid, Watched>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who watches, until it is dropped.
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

    /// Waits until the owner may have done something since this was asked the last time.
    pub(crate) async fn changed(&mut self) {
        // The sender is there for as long as somebody watches.
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
