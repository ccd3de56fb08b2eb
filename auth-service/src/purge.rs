//! Removes, now and then, what has ended long ago.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{Db, Error},
    random,
};

use crate::{model::login_throttle, store::purge};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(3600);

/// How long an ended session stays, so that a late token of it is still answered as it deserves, and no clock that is
/// an hour off makes the feed forget.
const SESSIONS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long the audit log goes back.
const EVENTS_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long the failed logins at addresses without an account stay: nobody reads them, and those of a past minute are
/// never added to.
const NOBODY_KEPT: Duration = Duration::from_secs(60);

/// Purges for as long as it is awaited.
pub async fn run(db: &Db, clock: &Clock) {
    loop {
        let now = clock.now();
        batches("sessions", || purge::sessions(db, now - SESSIONS_KEPT)).await;
        batches("audit events", || purge::audit_events(db, now - EVENTS_KEPT)).await;
        batches("failed logins of unknown users", || purge::failed_logins_unknown_user(db, now - NOBODY_KEPT)).await;
        batches("guesses", || purge::guesses(db, login_throttle::day(now) - 1)).await;
        // Replicas that started together need not purge together.
        tokio::time::sleep(random::jitter(EVERY)).await;
    }
}

/// Purges until a batch is not full.
async fn batches<F: Future<Output = Result<i64, Error>>>(what: &str, purge: impl Fn() -> F) {
    let mut removed = 0;
    loop {
        match purge().await {
            Ok(batch) => {
                removed += batch;
                if batch < purge::BATCH {
                    break;
                }
            }
            Err(error) => return tracing::warn!(%error, what, "cannot purge"),
        }
    }
    if removed > 0 {
        tracing::info!(what, removed, "purged what had ended");
    }
}
