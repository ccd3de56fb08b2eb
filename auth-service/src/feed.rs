//! The feed of revocations: reads revocations of all replicas from the database and sends them to the watchers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{
    auth::revocation::{Freshness, RevocationView},
    clock::{Clock, Timestamp},
    db::{Db, Error},
    epoch::CurrentEpoch,
    ops::as_gauge,
};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

mod history;

use crate::store::feed::{self, Cursor, FeedPosition};

/// How often the database is read if there is no notification. Each read is also a heartbeat.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum number of messages that a watcher can be behind. Slower watchers are disconnected and start again with a
/// snapshot.
const BACKLOG: usize = 256;

/// How long this replica accepts tokens when it cannot read its database.
const MAX_STALENESS: Duration = Duration::from_secs(30);

/// How long a logout waits for the acknowledgements of the verifiers.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The changes since the last update. An update without changes is a heartbeat.
#[derive(Clone, Debug)]
pub struct FeedUpdate {
    /// The sessions that were revoked.
    pub revoked: Arc<[Uuid]>,
    /// The state of the feed after this update. The watchers of another epoch start again with a snapshot.
    pub position: FeedPosition,
}

/// The state of the feed when a watcher starts.
#[derive(Debug)]
pub struct Snapshot {
    /// The revoked sessions that may have unexpired access tokens.
    pub revoked: Vec<Uuid>,
    /// If set, access tokens that were issued before this time are rejected.
    pub issued_before: Option<Timestamp>,
    /// The state of the feed.
    pub position: FeedPosition,
}

/// The feed of this replica.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    clock: Clock,
    view: Arc<RevocationView>,
    updates: broadcast::Sender<FeedUpdate>,
    /// The epoch of the position.
    epoch: CurrentEpoch,
    wake: Notify,
    state: Mutex<State>,
    /// Whether the view contains everything that the database contains, and the database everything that the view
    /// contains. `false` after the database has lost history. Changes only while the state is locked.
    is_consistent: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    /// The state of the database up to which the view contains all revocations.
    position: FeedPosition,
    /// The sessions with the sequence number of `position`; empty if they are not known. If the database has another one
    /// there, it has lost history, and has reached the same number again before this replica noticed.
    last_sessions: Arc<[Uuid]>,
    /// The last sequence number that each watcher has acknowledged. It belongs to the epoch of `position`.
    watchers: HashMap<Uuid, watch::Sender<i64>>,
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
        let view = Arc::new(RevocationView::new(MAX_STALENESS, clock.clone()));
        let (position, last_sessions) = history::load(&db, clock, &view).await?;
        // Exported before the first loss, so that alerts see it.
        metrics::counter!("taskey_feed_history_lost_total").increment(0);
        let feed = Self {
            db,
            clock: clock.clone(),
            view,
            updates: broadcast::Sender::new(BACKLOG),
            epoch: CurrentEpoch::new(position.epoch.unwrap_or_default().into()),
            wake: Notify::new(),
            state: Mutex::new(State { position, last_sessions, watchers: HashMap::new() }),
            is_consistent: watch::Sender::new(true),
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

    /// Returns the epoch of the database.
    #[must_use]
    pub fn epoch(&self) -> CurrentEpoch {
        self.0.epoch.clone()
    }

    /// Sets the metrics of the feed. Call it regularly.
    pub fn record_metrics(&self) {
        self.0.view.record_metrics("auth");
        metrics::gauge!("taskey_feed_verifiers").set(as_gauge(self.state().watchers.len()));
    }

    /// Makes the feed read the database now, after a revocation or a deletion, or for a new watcher.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Returns whether the feed and the database agree. They do not while lost history is being restored.
    #[must_use]
    pub fn consistency(&self) -> watch::Receiver<bool> {
        self.0.is_consistent.subscribe()
    }

    /// Registers a watcher for as long as the guard exists. Returns a snapshot and a receiver of later updates. A
    /// session may be in both. Returns `None` while this replica may lack revocations: its verifiers would accept
    /// revoked tokens. Wakes the feed: the first heartbeat, before which a verifier accepts no token, follows at once.
    #[must_use]
    pub fn watch(&self, id: Uuid) -> Option<(Snapshot, broadcast::Receiver<FeedUpdate>, WatchGuard)> {
        let feed = &*self.0;
        if feed.view.freshness() != Freshness::Fresh {
            return None;
        }
        let (updates, position) = {
            let mut state = self.state();
            if !*feed.is_consistent.borrow() {
                return None;
            }
            state.watchers.insert(id, watch::Sender::new(0));
            (feed.updates.subscribe(), state.position)
        };
        self.wake();
        let guard = WatchGuard { id, feed: self.clone() };
        // After the position: a session is in the view before the position is updated.
        let (revoked, issued_before) = feed.view.snapshot();
        Some((Snapshot { revoked, issued_before, position }, updates, guard))
    }

    /// Records that a watcher has applied all updates up to `sequence`. A watcher that has disconnected is ignored.
    pub fn acknowledge(&self, id: Uuid, sequence: i64) {
        if let Some(acknowledged) = self.state().watchers.get(&id) {
            acknowledged.send_if_modified(|last| sequence > std::mem::replace(last, sequence.max(*last)));
        }
    }

    /// Waits, with a timeout, until all watchers have acknowledged the revocations so far. Returns how many have: none
    /// if the database has lost history that they have acknowledged. Reads from `db`, because calls must not use the
    /// connection of the feed.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn wait_for_acknowledgements(&self, db: &Db) -> Result<usize, Error> {
        let known = self.state().position;
        let stored = feed::position(db).await?;
        self.wake();
        let watchers: Vec<_> = {
            let state = self.state();
            // The sequence numbers of the watchers belong to the epoch of the state.
            let is_same_history = stored.continues(&known) && stored.epoch == state.position.epoch;
            let watchers = state.watchers.values().filter(|_| is_same_history);
            watchers.map(watch::Sender::subscribe).collect()
        };
        let wait = async |mut acknowledged: watch::Receiver<i64>| {
            timeout(ACKNOWLEDGE_TIMEOUT, acknowledged.wait_for(|last| *last >= stored.sequence))
                .await
                .is_ok_and(|result| result.is_ok())
        };
        let acknowledged = futures::future::join_all(watchers.into_iter().map(wait)).await;
        Ok(acknowledged.into_iter().filter(|is_acknowledged| *is_acknowledged).count())
    }

    // Never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the feed for as long as it is awaited. Notifications from other replicas wake it.
    pub async fn run(&self) {
        tokio::join!(self.poll(), self.0.db.listen(feed::CHANNEL, || self.wake()));
    }

    /// Reads the database periodically and whenever the feed is woken. While the database cannot be read, no heartbeats
    /// are sent, so that verifiers notice.
    async fn poll(&self) {
        let mut failing_since = None;
        loop {
            // A wake-up and a timeout are handled alike.
            _ = timeout(POLL_INTERVAL, self.0.wake.notified()).await;
            match self.catch_up().await {
                Ok(()) => {
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

    /// Reads the revocations since the last call, page by page, and sends them to the watchers.
    async fn catch_up(&self) -> Result<(), Error> {
        let feed = &*self.0;
        let (known, last_sessions) = {
            let state = self.state();
            (state.position, Arc::clone(&state.last_sessions))
        };
        let mut next = Some(Cursor::after(known.sequence));
        while let Some(cursor) = next {
            let page = feed::list_after(&feed.db, cursor).await?;
            let is_first = cursor == Cursor::after(known.sequence);
            let is_other = |session| is_first && !last_sessions.is_empty() && !last_sessions.contains(&session);
            let is_continued = page.position.continues(&known) && !page.at_cursor.is_some_and(is_other);
            if !is_continued || !*feed.is_consistent.borrow() {
                return self.restore_history(known, page.position).await;
            }
            let revoked: Arc<[Uuid]> = page.sessions.iter().copied().collect();
            feed.view.add(revoked.iter().copied());
            let position = FeedPosition { sequence: page.complete_until().max(known.sequence), ..page.position };
            {
                let mut state = self.state();
                state.position = position;
                // Several pages may share a sequence number.
                let is_whole = is_first && page.next.is_none();
                if !is_whole || !page.last_sessions.is_empty() {
                    state.last_sessions = page.last_sessions.into_iter().filter(|_| is_whole).collect();
                }
            }
            // Sending fails if there are no watchers.
            _ = feed.updates.send(FeedUpdate { revoked, position });
            next = page.next;
        }
        Ok(())
    }

    /// Cuts off the watchers, repairs the database, and reads its revocations again. The watchers then start again with
    /// a snapshot. If this fails, the next call of [`Self::catch_up`] tries again.
    async fn restore_history(&self, known: FeedPosition, stored: FeedPosition) -> Result<(), Error> {
        let feed = &*self.0;
        let was_consistent = {
            let mut state = self.state();
            // Acknowledgements of the lost history must not count for new revocations.
            state.watchers.clear();
            feed.is_consistent.send_replace(false)
        };
        if was_consistent {
            metrics::counter!("taskey_feed_history_lost_total").increment(1);
            tracing::error!(
                expected_sequence = known.sequence,
                stored_sequence = stored.sequence,
                expected_epoch = ?known.epoch,
                stored_epoch = ?stored.epoch,
                "the database has lost revocations, or another database has replaced it; restoring those of this replica"
            );
        }
        let (position, last_sessions, restored) = history::restore(&feed.db, &feed.clock, &feed.view, known).await?;
        {
            let mut state = self.state();
            (state.position, state.last_sessions) = (position, last_sessions);
            feed.epoch.set(position.epoch.unwrap_or_default().into());
            feed.is_consistent.send_replace(true);
        }
        tracing::warn!(restored, sequence = position.sequence, epoch = ?position.epoch, "the feed of revocations is consistent again");
        // Ends the streams of the lost history.
        _ = feed.updates.send(FeedUpdate { revoked: Arc::default(), position });
        Ok(())
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
        self.feed.state().watchers.remove(&self.id);
    }
}
