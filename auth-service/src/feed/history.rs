//! Reads the recent revocations from the database, and restores those that the database has lost.

use std::{collections::HashSet, sync::Arc, time::Duration};

use service_kit::{
    auth::{
        claims,
        revocation::{MAX_SESSIONS, RETENTION, RevocationView},
    },
    clock::Clock,
    db::{Db, Error},
};
use uuid::Uuid;

use crate::store::{
    epoch,
    feed::{self, FeedPosition, RecentRevocations},
};

/// Added to the age of the revocations that are read, in case clocks differ.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// How long reading the recent revocations may take. If there are too many, the older ones are replaced by a time: tokens
/// that were issued before it are refused, and active sessions have to refresh.
const READ_BUDGET: Duration = Duration::from_secs(1);

/// Reads the recent revocations into a view. Returns the state of the feed from which later ones follow, and the sessions
/// with its sequence number.
///
/// # Errors
/// If the database fails.
pub(super) async fn load(db: &Db, clock: &Clock, view: &RevocationView) -> Result<(FeedPosition, Arc<[Uuid]>), Error> {
    let stored = feed::position(db).await?;
    // Only a new database has no epoch.
    let position = if stored.epoch.is_some() { stored } else { feed::ensure_epoch(db, None, clock.new_id()).await? };
    let last_sessions = feed::sessions_at(db, position.sequence).await?;
    read_recent(db, clock, view).await?;
    Ok((position, last_sessions.into()))
}

/// Restores a history that has been lost: starts a new epoch unless another replica has done so, reads the recent
/// revocations of the database into the view, and writes those that only the view contains to the database. The view
/// forgets nothing. Returns the state of the feed, the sessions with its sequence number, and how many revocations were
/// written.
///
/// # Errors
/// If the database fails.
pub(super) async fn restore(
    db: &Db,
    clock: &Clock,
    view: &RevocationView,
    known: FeedPosition,
) -> Result<(FeedPosition, Arc<[Uuid]>, usize), Error> {
    let (known_sessions, _) = view.snapshot();
    let position = feed::ensure_epoch(db, Some(known), clock.new_id()).await?;
    let last_sessions = feed::sessions_at(db, position.sequence).await?;
    let stored = read_recent(db, clock, view).await?;
    let lost: Vec<Uuid> = known_sessions.into_iter().filter(|session| !stored.contains(session)).collect();
    feed::restore(db, clock.now(), &lost).await?;
    Ok((position, last_sessions.into(), lost.len()))
}

/// Reads the recent revocations into a view, and returns them. The caller has read the state of the feed before:
/// sessions that are revoked between the two reads are in both.
async fn read_recent(db: &Db, clock: &Clock, view: &RevocationView) -> Result<HashSet<Uuid>, Error> {
    let since = clock.now() - RETENTION - CLOCK_SLACK;
    let RecentRevocations { sessions, omitted_until } = feed::recent(db, since, MAX_SESSIONS, READ_BUDGET).await?;
    let omitted_until = omitted_until.map(|last| last + claims::LEEWAY);
    view.add_snapshot(sessions.iter().copied(), epoch::issued_before(db).await?.max(omitted_until));
    view.add([]);
    Ok(sessions)
}
