//! Deletes expired rows periodically.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{Db, Error},
    random,
};

use crate::store::{device_authorizations, factor_keys, login_attempts, login_challenges, mails, purge};

/// How often rows are purged.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// How long sessions are kept after they have expired. Late refresh tokens still receive the correct error, and a clock
/// that is an hour off does not remove revocations from the feed.
const SESSION_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How long events of the audit log are kept.
const EVENT_RETENTION: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long mails are kept.
const MAIL_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long completed challenges are kept after they have expired, in case clocks differ.
const CHALLENGE_RETENTION: Duration = Duration::from_secs(60);

/// How long requests of devices are kept after they have expired, in case clocks differ.
const DEVICE_RETENTION: Duration = Duration::from_secs(60);

/// How long service tokens are listed after they have expired.
const SERVICE_TOKEN_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long failed logins without an account are kept. They are never read, and rows of past minutes are not updated.
const UNKNOWN_USER_RETENTION: Duration = Duration::from_secs(60);

/// Purges periodically for as long as it is awaited.
pub async fn run(db: &Db, clock: &Clock) {
    loop {
        let now = clock.now();
        purge_all("sessions", || purge::sessions(db, now - SESSION_RETENTION)).await;
        purge_all("personal access tokens", || purge::personal_access_tokens(db, now)).await;
        purge_all("service tokens", || purge::service_tokens(db, now - SERVICE_TOKEN_RETENTION)).await;
        purge_all("audit events", || purge::audit_events(db, now - EVENT_RETENTION)).await;
        purge_all("failed logins of unknown users", || {
            purge::failed_logins_unknown_user(db, now - UNKNOWN_USER_RETENTION)
        })
        .await;
        purge_all("mails", || mails::purge(db, now, now - MAIL_RETENTION, purge::BATCH)).await;
        purge_all("password attempt counters", || login_attempts::purge(db, now, purge::BATCH)).await;
        purge_all("unconfirmed factors", || factor_keys::purge_unconfirmed(db, now, purge::BATCH)).await;
        purge_all("completed logins", || login_challenges::purge(db, now - CHALLENGE_RETENTION, purge::BATCH)).await;
        purge_all("device authorizations", || device_authorizations::purge(db, now - DEVICE_RETENTION, purge::BATCH))
            .await;
        // The jitter keeps replicas that started together from purging at the same time.
        tokio::time::sleep(random::jitter(PURGE_INTERVAL)).await;
    }
}

/// Deletes batches until one is not full.
async fn purge_all<F: Future<Output = Result<i64, Error>>>(what: &str, purge_batch: impl Fn() -> F) {
    let mut removed = 0;
    loop {
        match purge_batch().await {
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
        tracing::info!(what, removed, "purged expired rows");
    }
}
