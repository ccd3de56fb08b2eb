//! The revoked sessions that a verifier keeps in memory, and how fresh they are.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    auth::claims::{self, AccessClaims},
    clock::{Clock, Timestamp},
};

pub mod deletion;
pub mod follow;

/// After this time without a heartbeat, revocations may have been missed.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);

/// How long a revoked session is kept: until none of its access tokens can be valid. Derived from the maximum lifetime
/// of tokens, so that a change of the setting cannot shorten it too early. Measured from when the session was received,
/// so that it does not depend on the clock of another machine.
pub const RETENTION: Duration = Duration::from_secs(claims::MAX_LIFETIME.as_secs() + claims::LEEWAY.as_secs() + 60);

/// How long a session is kept although a snapshot does not contain it. The snapshot may come from another peer, which
/// receives the revocation later.
const OUTLIVES_SNAPSHOT: Duration = Duration::from_secs(2 * HEARTBEAT_LIMIT.as_secs());

/// Maximum number of sessions in memory, at about 40 bytes each. If there are more, the oldest are replaced by a time:
/// tokens that were issued before it are refused, and active sessions have to refresh.
pub const MAX_SESSIONS: usize = 1_000_000;

/// How often expired entries are removed.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How fresh the revoked sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No snapshot has been received since the start.
    Cold,
    /// The last heartbeat was received within [`HEARTBEAT_LIMIT`].
    Fresh,
    /// Heartbeats are missing, but for less than the maximum staleness.
    Stale,
    /// Heartbeats have been missing for longer than the maximum staleness.
    Lost,
}

impl Freshness {
    /// Returns the name for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Lost => "lost",
        }
    }

    /// Reports whether tokens are accepted.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale)
    }
}

/// The status of the session of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked.
    Live,
    /// Revoked.
    Revoked,
    /// Unknown, because the token is too old. It must be refreshed.
    Outdated,
    /// Unknown, because revocations are not received.
    Unknown,
}

/// The revoked sessions, in memory.
#[derive(Debug)]
pub struct RevocationView {
    known: RwLock<Known>,
    /// How long tokens are accepted after the last heartbeat.
    max_staleness: Duration,
    clock: Clock,
    /// Notified when anything is received.
    heard: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Revoked sessions, with the time they were received.
    sessions: HashMap<Uuid, Instant>,
    /// Tokens that were issued before this time are refused.
    issued_before: Option<Timestamp>,
    /// Whether a snapshot has been received.
    complete: bool,
    /// When the last heartbeat was received. `None` before the first one after a snapshot.
    heard_at: Option<Instant>,
    /// When expired entries were last removed.
    forgot_at: Option<Instant>,
}

impl RevocationView {
    /// Creates an empty view. It accepts tokens until `max_staleness` after the last heartbeat, but at least for
    /// [`HEARTBEAT_LIMIT`], because heartbeats may be that far apart.
    #[must_use]
    pub fn new(max_staleness: Duration, clock: Clock) -> Self {
        let max_staleness = max_staleness.max(HEARTBEAT_LIMIT);
        Self { known: RwLock::default(), max_staleness, clock, heard: watch::Sender::new(()) }
    }

    /// Returns the status of the session of a token, with one lookup in memory.
    #[must_use]
    pub fn check(&self, claims: &AccessClaims) -> Verdict {
        let known = self.read();
        let freshness = self.freshness_of(&known);
        if freshness != Freshness::Fresh {
            metrics::counter!("taskey_tokens_checked_without_fresh_revocations_total", "state" => freshness.name())
                .increment(1);
        }
        if !freshness.serves() {
            Verdict::Unknown
        } else if known.sessions.contains_key(&claims.session_id) {
            Verdict::Revoked
        } else if known.issued_before.is_some_and(|instant| claims.issued_at < instant) {
            Verdict::Outdated
        } else {
            Verdict::Live
        }
    }

    /// Returns how fresh the view is now.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.freshness_of(&self.read())
    }

    fn freshness_of(&self, known: &Known) -> Freshness {
        match known.heard_at.map(|at| at.elapsed()) {
            None => Freshness::Cold,
            Some(silence) if silence <= HEARTBEAT_LIMIT => Freshness::Fresh,
            Some(silence) if silence <= self.max_staleness => Freshness::Stale,
            Some(_) => Freshness::Lost,
        }
    }

    /// Replaces all sessions by a snapshot. The view becomes fresh with the next heartbeat, because the peer may have
    /// lost its database and send an old snapshot. Tokens that were issued before `issued_before` are outdated.
    pub fn replace(&self, snapshot: impl IntoIterator<Item = Uuid>, issued_before: Option<Timestamp>) {
        let now = Instant::now();
        let mut sessions: HashMap<_, _> = snapshot.into_iter().map(|session| (session, now)).collect();
        let mut known = self.write();
        let recent = known.sessions.iter().filter(|(_, heard_at)| now.duration_since(**heard_at) <= OUTLIVES_SNAPSHOT);
        for (session, heard_at) in recent {
            sessions.entry(*session).or_insert(*heard_at);
        }
        known.sessions = sessions;
        known.issued_before = known.issued_before.max(issued_before);
        known.complete = true;
        self.collapse(&mut known, now);
    }

    /// Adds revoked sessions. Without sessions it is a heartbeat. Heartbeats count only after a snapshot.
    pub fn add(&self, revoked: impl IntoIterator<Item = Uuid>) {
        let now = Instant::now();
        let mut known = self.write();
        known.sessions.extend(revoked.into_iter().map(|session| (session, now)));
        if known.complete {
            known.heard_at = Some(now);
        }
        if now.duration_since(*known.forgot_at.get_or_insert(now)) > FORGET_EVERY {
            known.sessions.retain(|_, heard_at| now.duration_since(*heard_at) < RETENTION);
            known.forgot_at = Some(now);
        }
        self.collapse(&mut known, now);
        metrics::gauge!("taskey_revoked_sessions")
            .set(f64::from(u32::try_from(known.sessions.len()).unwrap_or(u32::MAX)));
        drop(known);
        self.heard.send_replace(());
    }

    /// Limits the number of sessions. If there are too many, the older half is replaced by a time after which none of
    /// their tokens was issued, so no revocation is lost. The sessions of one snapshot are equally old and are replaced
    /// together.
    fn collapse(&self, known: &mut Known, now: Instant) {
        if known.sessions.len() <= MAX_SESSIONS {
            return;
        }
        let mut heard_at: Vec<_> = known.sessions.values().copied().collect();
        let half = heard_at.len() / 2;
        let newest = *heard_at.select_nth_unstable(half).1;
        known.sessions.retain(|_, heard_at| *heard_at > newest);
        let instant = self.clock.now() - now.duration_since(newest) + claims::LEEWAY;
        known.issued_before = known.issued_before.max(Some(instant));
        metrics::counter!("taskey_revocations_collapsed_total").increment(1);
        tracing::warn!(
            left = known.sessions.len(),
            "too many revoked sessions; tokens from before are taken for expired"
        );
    }

    /// Returns the revoked sessions, and the time before which tokens are outdated, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> (Vec<Uuid>, Option<Timestamp>) {
        let known = self.read();
        (known.sessions.keys().copied().collect(), known.issued_before)
    }

    /// Returns a receiver that is notified of every update and heartbeat.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    /// Calls `report` now and whenever the freshness changes, for as long as it is awaited.
    pub async fn watch_freshness(&self, mut report: impl FnMut(Freshness)) {
        let mut heard = self.heard();
        let mut last = None;
        loop {
            let freshness = self.freshness();
            if last.replace(freshness) != Some(freshness) {
                metrics::counter!("taskey_revocation_state_entered_total", "state" => freshness.name()).increment(1);
                report(freshness);
            }
            // The freshness improves with a message, and degrades with time.
            let next = match freshness {
                Freshness::Fresh => HEARTBEAT_LIMIT,
                _ => Duration::from_millis(250),
            };
            _ = tokio::time::timeout(next, heard.changed()).await;
        }
    }

    // The lock is held for a lookup or an update, never across an await. A panic cannot leave the map inconsistent, so
    // poisoning is ignored.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
