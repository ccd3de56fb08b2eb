//! The feed of revocations: reads from the database what has been revoked, by whichever process, and tells everyone
//! who watches.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use service_kit::{
    clock::{Clock, Timestamp},
    db::{Db, Error},
    revocation::{MAX_SESSIONS, REMEMBERED, RevocationView},
    token,
};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::store::revocations::{self, FeedPosition};

/// How often the database is asked, if nothing wakes the feed before. Each answer is also a heartbeat.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// How many messages a watcher may be behind before it is cut off and starts over with a snapshot.
const BACKLOG: usize = 256;

/// What the snapshot at the start reaches back, over what would do if all clocks were right.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// How long this replica itself goes on accepting tokens when it cannot read its database. Without the database it
/// can do little with them.
const OWN_STALENESS: Duration = Duration::from_secs(30);

/// For so long a logout waits for the verifiers.
const VERIFIERS_LIMIT: Duration = Duration::from_secs(1);

/// What has just been revoked.
#[derive(Clone, Debug)]
pub struct News {
    /// The sessions; none is a heartbeat.
    pub revoked: Arc<[Uuid]>,
    /// Everything up to this place has been told.
    pub place: i64,
    /// How many accounts have been deleted.
    pub deletions: i64,
}

/// What has been revoked so far.
#[derive(Debug)]
pub struct Snapshot {
    /// The sessions that matter.
    pub revoked: Vec<Uuid>,
    /// Tokens that were issued before are outdated, if it says so.
    pub issued_before: Option<Timestamp>,
    /// How far it goes.
    pub place: i64,
    /// How many accounts have been deleted.
    pub deletions: i64,
}

/// The feed of this replica.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    view: Arc<RevocationView>,
    news: broadcast::Sender<News>,
    wake: Notify,
    /// How far the view has come.
    place: AtomicI64,
    /// How many accounts have been deleted.
    deletions: AtomicI64,
    /// How far each watcher has confirmed what it was told.
    watchers: Mutex<HashMap<Uuid, watch::Sender<i64>>>,
}

/// What others hold of the feed.
#[derive(Clone, Debug)]
pub struct FeedHandle(Arc<Feed>);

impl Feed {
    /// Reads what has been revoked so far.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(db: Db, clock: &Clock) -> Result<FeedHandle, Error> {
        // What is revoked between the two reads is in both.
        let FeedPosition { last_revocation, last_deletion } = revocations::position(&db).await?;
        let since = clock.now() - REMEMBERED - CLOCK_SLACK;
        let (recent, left_out) = revocations::recent(&db, since, MAX_SESSIONS).await?;
        let view = Arc::new(RevocationView::new(OWN_STALENESS, clock.clone()));
        view.replace(recent, left_out.map(|last| last + token::LEEWAY));
        view.add([]);
        let (news, wake) = (broadcast::Sender::new(BACKLOG), Notify::new());
        let (place, deletions) = (AtomicI64::new(last_revocation), AtomicI64::new(last_deletion));
        let feed = Self { db, view, news, wake, place, deletions, watchers: Mutex::default() };
        Ok(FeedHandle(Arc::new(feed)))
    }
}

impl FeedHandle {
    /// What this replica knows of revoked sessions.
    #[must_use]
    pub fn view(&self) -> Arc<RevocationView> {
        Arc::clone(&self.0.view)
    }

    /// Has the feed look at once, because something was revoked or an account deleted.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Begins to watch: all revoked sessions that matter, and what is revoked from now on. A session may be in both.
    #[must_use]
    pub fn watch(&self, id: Uuid) -> (Snapshot, broadcast::Receiver<News>, Watching) {
        self.watchers().insert(id, watch::Sender::new(0));
        let watching = Watching { id, feed: self.clone() };
        // In this order, so that nothing falls between: a session is in the view before its place is told, and before
        // it is news.
        let news = self.0.news.subscribe();
        let place = self.0.place.load(Ordering::SeqCst);
        let (revoked, issued_before) = self.0.view.snapshot();
        let deletions = self.0.deletions.load(Ordering::SeqCst);
        (Snapshot { revoked, issued_before, place, deletions }, news, watching)
    }

    /// A watcher confirms what it was told. One that has gone is no error.
    pub fn acknowledge(&self, id: Uuid, place: i64) {
        if let Some(confirmed) = self.watchers().get(&id) {
            confirmed.send_if_modified(|confirmed| place > std::mem::replace(confirmed, place.max(*confirmed)));
        }
    }

    /// Waits until everyone who watches has confirmed what has been revoked so far, and says how many have. Reads from
    /// the caller's `db`, because callers must not use the connection that is reserved for the feed.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn confirmed(&self, db: &Db) -> Result<usize, Error> {
        let place = revocations::position(db).await?.last_revocation;
        self.wake();
        let watchers: Vec<_> = self.watchers().values().map(watch::Sender::subscribe).collect();
        let wait = async |mut confirmed: watch::Receiver<i64>| {
            timeout(VERIFIERS_LIMIT, confirmed.wait_for(|confirmed| *confirmed >= place))
                .await
                .is_ok_and(|it| it.is_ok())
        };
        let confirmed = futures::future::join_all(watchers.into_iter().map(wait)).await;
        Ok(confirmed.into_iter().filter(|confirmed| *confirmed).count())
    }

    // Held for a lookup, never across an await.
    fn watchers(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<i64>>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the feed going for as long as it is awaited, and has it look when another replica announces something.
    pub async fn run(&self) {
        tokio::join!(self.poll(), self.0.db.listen(revocations::CHANNEL, || self.wake()));
    }

    /// Asks the database now and then, and whenever the feed is woken. While the database cannot be read there are no heartbeats:
    /// whoever follows a blind replica must know that it is blind.
    async fn poll(&self) {
        let feed = &*self.0;
        let mut blind_since = None;
        loop {
            // Whether it was woken or the time has come, the next step is the same.
            _ = timeout(POLL_EVERY, feed.wake.notified()).await;
            match revocations::list_after(&feed.db, feed.place.load(Ordering::SeqCst)).await {
                Ok((entries, deletions)) => {
                    let revoked: Arc<[Uuid]> = entries.iter().map(|entry| entry.session_id).collect();
                    feed.view.add(revoked.iter().copied());
                    if let Some(last) = entries.last() {
                        feed.place.store(last.sequence, Ordering::SeqCst);
                    }
                    feed.deletions.store(deletions, Ordering::SeqCst);
                    // Nobody may be watching.
                    _ = feed.news.send(News { revoked, place: feed.place.load(Ordering::SeqCst), deletions });
                    if let Some(since) = blind_since.take() {
                        let seconds = Instant::now().duration_since(since).as_secs();
                        tracing::info!(seconds, "revocations can be read again");
                    }
                }
                Err(error) if blind_since.is_none() => {
                    tracing::error!(%error, "revocations cannot be read");
                    blind_since = Some(Instant::now());
                }
                Err(_) => {}
            }
        }
    }
}

/// Keeps a watcher known for as long as it watches.
#[derive(Debug)]
pub struct Watching {
    id: Uuid,
    feed: FeedHandle,
}

impl Watching {
    /// The name of the watch.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.feed.watchers().remove(&self.id);
    }
}
