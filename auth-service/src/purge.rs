//! Removes, now and then, what has ended long ago.

use std::time::Duration;

use service_kit::{clock::Clock, db::Db, random};

use crate::store::purge;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(3600);

/// How long an ended session stays, so that a late token of it is still answered as it deserves, and no clock that is
/// an hour off makes the feed forget.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Purges for as long as it is awaited.
pub async fn run(db: &Db, clock: &Clock) {
    loop {
        loop {
            match purge::sessions(db, clock.now() - KEPT).await {
                Ok(purge::BATCH..) => {}
                Ok(0) => break,
                Ok(removed) => {
                    tracing::info!(removed, "purged sessions that had ended");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot purge sessions");
                    break;
                }
            }
        }
        // Replicas that started together need not purge together.
        tokio::time::sleep(random::jitter(EVERY)).await;
    }
}
