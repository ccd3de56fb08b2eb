//! The feed of revocations: reads from the database what has been revoked, by whichever process, and tells everyone
//! who watches.

use std::{sync::Arc, time::Duration};

use service_kit::{
    clock::Clock,
    db::{Db, Error},
    revocation::{REMEMBERED, RevocationView},
};
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::store::revocations;

/// How often the database is asked, if nothing wakes the feed before. Each answer is also a heartbeat.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// How many messages a watcher may be behind before it is cut off and starts over with a snapshot.
const BACKLOG: usize = 256;

/// What the snapshot at the start reaches back, over what would do if all clocks were right.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// How long this replica itself goes on accepting tokens when it cannot read its database. Without the database it
/// can do little with them.
const OWN_STALENESS: Duration = Duration::from_secs(30);

/// Sessions that have just been revoked; none is a heartbeat.
pub type News = Arc<[Uuid]>;

/// The feed of this replica.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    view: Arc<RevocationView>,
    news: broadcast::Sender<News>,
    wake: Notify,
    last_place: i64,
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
        let last_place = revocations::last_place(&db).await?;
        let recent = revocations::recent(&db, clock.now() - REMEMBERED - CLOCK_SLACK).await?;
        let view = Arc::new(RevocationView::new(OWN_STALENESS));
        view.replace(recent);
        view.add([]);
        let feed = Self { db, view, news: broadcast::Sender::new(BACKLOG), wake: Notify::new(), last_place };
        Ok(FeedHandle(Arc::new(feed)))
    }
}

impl FeedHandle {
    /// What this replica knows of revoked sessions.
    #[must_use]
    pub fn view(&self) -> Arc<RevocationView> {
        Arc::clone(&self.0.view)
    }

    /// Has the feed look at once, because something was revoked.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// All revoked sessions that matter, and what is revoked from now on. A session may be in both.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<Uuid>, broadcast::Receiver<News>) {
        // In this order, so that nothing falls between: a session is in the view before it is news.
        let news = self.0.news.subscribe();
        (self.0.view.sessions(), news)
    }

    /// Keeps the feed going for as long as it is awaited, and has it look when another replica announces something.
    pub async fn run(&self) {
        tokio::join!(self.poll(), self.0.db.listen(revocations::CHANNEL, || self.wake()));
    }

    /// Asks the database now and then, and whenever the feed is woken. While the database cannot be read there are no heartbeats:
    /// whoever follows a blind replica must know that it is blind.
    async fn poll(&self) {
        let feed = &*self.0;
        let mut last_place = feed.last_place;
        let mut blind_since = None;
        loop {
            // Whether it was woken or the time has come, the next step is the same.
            _ = timeout(POLL_EVERY, feed.wake.notified()).await;
            match revocations::after(&feed.db, last_place).await {
                Ok(entries) => {
                    last_place = entries.last().map_or(last_place, |entry| entry.revocation);
                    let sessions: News = entries.iter().map(|entry| entry.id).collect();
                    feed.view.add(sessions.iter().copied());
                    // Nobody may be watching.
                    _ = feed.news.send(sessions);
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
