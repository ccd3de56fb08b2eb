//! The feed of revocations: reads revocations of all replicas from the database and sends them to the watchers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use service_kit::{
    auth::{
        claims,
        revocation::{MAX_SESSIONS, RETENTION, RevocationView},
    },
    clock::{Clock, Timestamp},
    db::{Db, Error},
};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::store::revocations::{self, FeedPosition};

/// How often the database is read if there is no notification. Each read is also a heartbeat.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum number of messages that a watcher can be behind. Slower watchers are disconnected and start again with a
/// snapshot.
const BACKLOG: usize = 256;

/// Added to the age of the revocations that are read at start-up, in case clocks differ.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// How long this replica accepts tokens when it cannot read its database.
const MAX_STALENESS: Duration = Duration::from_secs(30);

/// How long a logout waits for the acknowledgements of the verifiers.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The changes since the last update. An update without changes is a heartbeat.
#[derive(Clone, Debug)]
pub struct FeedUpdate {
    /// The sessions that were revoked.
    pub revoked: Arc<[Uuid]>,
    /// The sequence number of the last revocation.
    pub sequence: i64,
    /// The sequence number of the last deletion of an account.
    pub last_deletion: i64,
}

/// The state of the feed when a watcher starts.
#[derive(Debug)]
pub struct Snapshot {
    /// Identifies the database that assigned the sequence numbers.
    pub epoch: Uuid,
    /// The revoked sessions that may have unexpired access tokens.
    pub revoked: Vec<Uuid>,
    /// If set, access tokens that were issued before this time are rejected.
    pub issued_before: Option<Timestamp>,
    /// The sequence number of the last revocation.
    pub sequence: i64,
    /// The sequence number of the last deletion of an account.
    pub last_deletion: i64,
}

/// The feed of this replica.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    view: Arc<RevocationView>,
    updates: broadcast::Sender<FeedUpdate>,
    wake: Notify,
    /// Identifies the database that assigned the sequence numbers.
    epoch: Uuid,
    /// The sequence number of the last revocation in the view.
    sequence: AtomicI64,
    /// The sequence number of the last deletion of an account.
    last_deletion: AtomicI64,
    /// The last sequence number that each watcher has acknowledged.
    watchers: Mutex<HashMap<Uuid, watch::Sender<i64>>>,
}

/// A shared handle to the feed.
#[derive(Clone, Debug)]
pub struct FeedHandle(Arc<Feed>);

impl Feed {
    /// Opens the feed and reads the recent revocations.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(db: Db, clock: &Clock) -> Result<FeedHandle, Error> {
        let epoch = revocations::epoch(&db, clock.new_id()).await?;
        // In this order: sessions that are revoked between the two reads are in both.
        let FeedPosition { last_revocation, last_deletion } = revocations::position(&db).await?;
        let since = clock.now() - RETENTION - CLOCK_SLACK;
        let (recent, last_omitted) = revocations::recent(&db, since, MAX_SESSIONS).await?;
        let view = Arc::new(RevocationView::new(MAX_STALENESS, clock.clone()));
        view.replace(recent, last_omitted.map(|last| last + claims::LEEWAY));
        view.add([]);
        let feed = Self {
            db,
            view,
            updates: broadcast::Sender::new(BACKLOG),
            wake: Notify::new(),
            epoch,
            sequence: AtomicI64::new(last_revocation),
            last_deletion: AtomicI64::new(last_deletion),
            watchers: Mutex::default(),
        };
        Ok(FeedHandle(Arc::new(feed)))
    }
}

impl FeedHandle {
    /// Returns the revoked sessions of this replica.
    #[must_use]
    pub fn view(&self) -> Arc<RevocationView> {
        Arc::clone(&self.0.view)
    }

    /// Makes the feed read the database now, after a revocation or a deletion.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Registers a watcher for as long as the guard exists. Returns a snapshot and a receiver of later updates. A
    /// session may be in both.
    #[must_use]
    pub fn watch(&self, id: Uuid) -> (Snapshot, broadcast::Receiver<FeedUpdate>, WatchGuard) {
        self.watchers().insert(id, watch::Sender::new(0));
        let guard = WatchGuard { id, feed: self.clone() };
        // The order matters: a session is in the view before its sequence number is stored and its update is sent.
        let updates = self.0.updates.subscribe();
        let sequence = self.0.sequence.load(Ordering::SeqCst);
        let (revoked, issued_before) = self.0.view.snapshot();
        let last_deletion = self.0.last_deletion.load(Ordering::SeqCst);
        (Snapshot { epoch: self.0.epoch, revoked, issued_before, sequence, last_deletion }, updates, guard)
    }

    /// Records that a watcher has applied all updates up to `sequence`. A watcher that has disconnected is ignored.
    pub fn acknowledge(&self, id: Uuid, sequence: i64) {
        if let Some(acknowledged) = self.watchers().get(&id) {
            acknowledged.send_if_modified(|last| sequence > std::mem::replace(last, sequence.max(*last)));
        }
    }

    /// Waits, with a timeout, until all watchers have acknowledged the revocations so far. Returns how many have.
    /// Reads from `db`, because calls must not use the connection that is reserved for the feed.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn wait_for_acknowledgements(&self, db: &Db) -> Result<usize, Error> {
        let sequence = revocations::position(db).await?.last_revocation;
        self.wake();
        let watchers: Vec<_> = self.watchers().values().map(watch::Sender::subscribe).collect();
        let wait = async |mut acknowledged: watch::Receiver<i64>| {
            timeout(ACKNOWLEDGE_TIMEOUT, acknowledged.wait_for(|last| *last >= sequence))
                .await
                .is_ok_and(|result| result.is_ok())
        };
        let acknowledged = futures::future::join_all(watchers.into_iter().map(wait)).await;
        Ok(acknowledged.into_iter().filter(|is_acknowledged| *is_acknowledged).count())
    }

    // Never held across an await.
    fn watchers(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<i64>>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the feed for as long as it is awaited. Notifications from other replicas wake it.
    pub async fn run(&self) {
        tokio::join!(self.poll(), self.0.db.listen(revocations::CHANNEL, || self.wake()));
    }

    /// Reads the database periodically and whenever the feed is woken. While the database cannot be read, no heartbeats
    /// are sent, so that verifiers notice.
    async fn poll(&self) {
        let feed = &*self.0;
        let mut failing_since = None;
        loop {
            // A wake-up and a timeout are handled alike.
            _ = timeout(POLL_INTERVAL, feed.wake.notified()).await;
            match revocations::list_after(&feed.db, feed.sequence.load(Ordering::SeqCst)).await {
                Ok((entries, last_deletion)) => {
                    let revoked: Arc<[Uuid]> = entries.iter().map(|entry| entry.session_id).collect();
                    feed.view.add(revoked.iter().copied());
                    if let Some(last) = entries.last() {
                        feed.sequence.store(last.sequence, Ordering::SeqCst);
                    }
                    feed.last_deletion.store(last_deletion, Ordering::SeqCst);
                    let sequence = feed.sequence.load(Ordering::SeqCst);
                    // Sending fails if there are no watchers.
                    _ = feed.updates.send(FeedUpdate { revoked, sequence, last_deletion });
                    if let Some(since) = failing_since.take() {
                        let seconds = Instant::now().duration_since(since).as_secs();
                        tracing::info!(seconds, "revocations can be read again");
                    }
                }
                Err(error) if failing_since.is_none() => {
                    tracing::error!(%error, "revocations cannot be read");
                    failing_since = Some(Instant::now());
                }
                Err(_) => {}
            }
        }
    }
}

/// Keeps a watcher registered until it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    id: Uuid,
    feed: FeedHandle,
}

impl WatchGuard {
    /// Returns the id of the watcher.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.feed.watchers().remove(&self.id);
    }
}
