//! What a verifier knows of revoked sessions: a set in memory, and how far it can be trusted.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    token::{self, Grant},
};

pub mod deletion;
pub mod follow;

/// No heartbeat for so long, and revocations may have been missed.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);

/// How long a revoked session is remembered after it was heard of: no access token of it can be good any more. Taken
/// from the longest life that any token may have, so that a change of the setting cannot shorten it too early, and
/// counted from when it was heard of, so that no clock of another machine matters.
pub const REMEMBERED: Duration = Duration::from_secs(token::MAX_LIFE.as_secs() + token::LEEWAY.as_secs() + 60);

/// For so long a session that was heard of outlives a snapshot that does not name it: another peer, whose snapshot it
/// is, may hear of it that much later.
const OUTLIVES_SNAPSHOT: Duration = Duration::from_secs(2 * HEARTBEAT_LIMIT.as_secs());

/// More sessions are not held one by one, at some 40 bytes each. Beyond it those that were heard of first are
/// replaced by an instant: tokens that were issued before it are refused, and live sessions refresh.
pub const MAX_SESSIONS: usize = 1_000_000;

/// How often sessions that no longer matter are dropped.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How far the set can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No snapshot since the start: nothing is known.
    Cold,
    /// A heartbeat came within [`HEARTBEAT_LIMIT`].
    Fresh,
    /// Heartbeats are missing, yet within the staleness that the operator allows.
    Stale,
    /// Heartbeats have been missing for too long.
    Lost,
}

impl Freshness {
    /// As it is written in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Lost => "lost",
        }
    }

    /// Whether tokens are accepted.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale)
    }
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked.
    Live,
    /// Revoked.
    Revoked,
    /// The token is too old for anyone to say: it must be exchanged for a new one.
    Outdated,
    /// The set cannot be trusted at the moment.
    Unknown,
}

/// The revoked sessions, in memory.
#[derive(Debug)]
pub struct RevocationView {
    known: RwLock<Known>,
    /// How long after the last heartbeat tokens are still accepted.
    max_staleness: Duration,
    clock: Clock,
    /// Tells those who wait that something was heard.
    heard: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Revoked sessions, each with the moment when it was heard of.
    sessions: HashMap<Uuid, Instant>,
    /// Of tokens that were issued before, nobody can say here whether their session was revoked.
    issued_before: Option<Timestamp>,
    /// Whether there has been a snapshot.
    complete: bool,
    /// When the feed was last heard; `None` before the first heartbeat after a snapshot.
    heard_at: Option<Instant>,
    /// When sessions that no longer matter were last dropped.
    forgot_at: Option<Instant>,
}

impl RevocationView {
    /// A view that knows nothing yet. It serves until `max_staleness` after the last heartbeat, but never less than
    /// [`HEARTBEAT_LIMIT`], since a heartbeat may be that far apart from the next.
    #[must_use]
    pub fn new(max_staleness: Duration, clock: Clock) -> Self {
        let max_staleness = max_staleness.max(HEARTBEAT_LIMIT);
        Self { known: RwLock::default(), max_staleness, clock, heard: watch::Sender::new(()) }
    }

    /// What is known of the session of a token. A lookup in memory.
    #[must_use]
    pub fn check(&self, grant: &Grant) -> Verdict {
        let known = self.read();
        let freshness = self.freshness_of(&known);
        if freshness != Freshness::Fresh {
            metrics::counter!("taskey_tokens_checked_without_fresh_revocations_total", "state" => freshness.name())
                .increment(1);
        }
        if !freshness.serves() {
            Verdict::Unknown
        } else if known.sessions.contains_key(&grant.session_id) {
            Verdict::Revoked
        } else if known.issued_before.is_some_and(|instant| grant.issued_at < instant) {
            Verdict::Outdated
        } else {
            Verdict::Live
        }
    }

    /// How far the view can be trusted now.
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

    /// Replaces the set in one swap by a complete snapshot. It becomes fresh by the next heartbeat and not before: the
    /// peer may have gone blind, and send what it knew. Tokens that were issued before `issued_before`, if the snapshot
    /// says so, are outdated.
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

    /// Adds revoked sessions; none at all is a heartbeat. It counts only after a snapshot.
    pub fn add(&self, revoked: impl IntoIterator<Item = Uuid>) {
        let now = Instant::now();
        let mut known = self.write();
        known.sessions.extend(revoked.into_iter().map(|session| (session, now)));
        if known.complete {
            known.heard_at = Some(now);
        }
        if now.duration_since(*known.forgot_at.get_or_insert(now)) > FORGET_EVERY {
            known.sessions.retain(|_, heard_at| now.duration_since(*heard_at) < REMEMBERED);
            known.forgot_at = Some(now);
        }
        self.collapse(&mut known, now);
        metrics::gauge!("taskey_revoked_sessions")
            .set(f64::from(u32::try_from(known.sessions.len()).unwrap_or(u32::MAX)));
        drop(known);
        self.heard.send_replace(());
    }

    /// Keeps the set from growing without bound, and forgets nothing silently: the older half of too many sessions
    /// becomes an instant that is not before any of their tokens was issued. Those that came with one snapshot are
    /// equally old, and go together.
    fn collapse(&self, known: &mut Known, now: Instant) {
        if known.sessions.len() <= MAX_SESSIONS {
            return;
        }
        let mut heard_at: Vec<_> = known.sessions.values().copied().collect();
        let half = heard_at.len() / 2;
        let newest = *heard_at.select_nth_unstable(half).1;
        known.sessions.retain(|_, heard_at| *heard_at > newest);
        let instant = self.clock.now() - now.duration_since(newest) + token::LEEWAY;
        known.issued_before = known.issued_before.max(Some(instant));
        metrics::counter!("taskey_revocations_collapsed_total").increment(1);
        tracing::warn!(
            left = known.sessions.len(),
            "too many revoked sessions; tokens from before are taken for expired"
        );
    }

    /// The sessions that are known to be revoked, and the instant before which tokens are outdated, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> (Vec<Uuid>, Option<Timestamp>) {
        let known = self.read();
        (known.sessions.keys().copied().collect(), known.issued_before)
    }

    /// Tells when something is heard, be it but a heartbeat.
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
            // A change for the better comes with a message; one for the worse by the time going on.
            let next = match freshness {
                Freshness::Fresh => HEARTBEAT_LIMIT,
                _ => Duration::from_millis(250),
            };
            _ = tokio::time::timeout(next, heard.changed()).await;
        }
    }

    // The lock is held for a lookup or a swap, never across an await. No writer can leave the map half changed, so a
    // poisoned lock is as good as any other.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
