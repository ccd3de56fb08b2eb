//! The revoked sessions that a verifier keeps in memory, and how fresh they are.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use monitor::FeedMonitor;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    auth::claims::{self, AccessClaims},
    clock::{Clock, Timestamp},
    ops::as_gauge,
};

mod check;
pub mod follow;
mod monitor;
pub mod peer;
pub mod user_changes;

/// After this time without a heartbeat, revocations may have been missed.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);

/// How long a revoked session is kept: until none of its access tokens can be valid. Derived from the maximum lifetime
/// of tokens, not from the configured one, because tokens issued before a change of the setting may live longer.
/// Measured from when the session was received, so that it does not depend on the clock of another machine.
pub const RETENTION: Duration = Duration::from_secs(claims::MAX_LIFETIME.as_secs() + claims::LEEWAY.as_secs() + 60);

/// Maximum number of sessions in memory, at about 40 bytes each. If there are more, the oldest are replaced by a time.
/// Tokens that were issued before that time are refused, and active sessions have to refresh.
pub const MAX_SESSIONS: usize = 1_000_000;

/// How often expired entries are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

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
    /// All states.
    const ALL: [Self; 4] = [Self::Cold, Self::Fresh, Self::Stale, Self::Lost];

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
    pub fn accepts_tokens(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale)
    }
}

/// The status of the sessions of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked.
    Active,
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
    state: RwLock<State>,
    /// How long tokens are accepted after the last heartbeat.
    max_staleness: Duration,
    clock: Clock,
    /// Notified of every update and heartbeat, but not of a snapshot.
    updated: watch::Sender<()>,
    /// Monitors the feed from which the sessions are received.
    monitor: FeedMonitor,
}

#[derive(Debug, Default)]
struct State {
    /// Revoked sessions, with the time they were received.
    sessions: HashMap<Uuid, Instant>,
    /// Tokens that were issued before this time are refused.
    issued_before: Option<Timestamp>,
    /// Whether a snapshot has been received.
    has_snapshot: bool,
    /// When the last heartbeat was received. `None` before the first one after a snapshot.
    last_heartbeat: Option<Instant>,
    /// When expired entries were last removed.
    pruned_at: Option<Instant>,
}

impl RevocationView {
    /// Creates an empty view. It accepts tokens until `max_staleness` after the last heartbeat, but at least for
    /// [`HEARTBEAT_LIMIT`], because heartbeats may be that far apart.
    #[must_use]
    pub fn new(max_staleness: Duration, clock: Clock) -> Self {
        let max_staleness = max_staleness.max(HEARTBEAT_LIMIT);
        let monitor = FeedMonitor::new(clock.clone());
        Self { state: RwLock::default(), max_staleness, clock, updated: watch::Sender::new(()), monitor }
    }

    /// Returns whether the clocks of auth-service and of this verifier differ by no more than access tokens allow.
    #[must_use]
    pub fn clock_in_sync(&self) -> watch::Receiver<bool> {
        self.monitor.clock_in_sync()
    }

    /// Returns the status of the session of a token, and of those of the services that act on behalf of the user, with one
    /// lookup in memory for each.
    #[must_use]
    pub fn check(&self, claims: &AccessClaims) -> Verdict {
        let state = self.read();
        let freshness = self.compute_freshness(&state);
        if freshness != Freshness::Fresh {
            metrics::counter!("taskey_tokens_checked_without_fresh_revocations_total", "state" => freshness.name())
                .increment(1);
        }
        if !freshness.accepts_tokens() {
            Verdict::Unknown
        } else if claims.session_ids().any(|session_id| state.sessions.contains_key(&session_id)) {
            Verdict::Revoked
        } else if state.issued_before.is_some_and(|issued_before| claims.issued_at < issued_before) {
            Verdict::Outdated
        } else {
            Verdict::Active
        }
    }

    /// Returns how fresh the view is now.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.compute_freshness(&self.read())
    }

    fn compute_freshness(&self, state: &State) -> Freshness {
        match state.last_heartbeat.map(|at| at.elapsed()) {
            None => Freshness::Cold,
            Some(silence) if silence <= HEARTBEAT_LIMIT => Freshness::Fresh,
            Some(silence) if silence <= self.max_staleness => Freshness::Stale,
            Some(_) => Freshness::Lost,
        }
    }

    /// Adds the sessions of a snapshot. Those that the view already contains remain until none of their tokens can be
    /// valid, because the peer may receive them later, or its database may have lost them. Tokens that were issued
    /// before `issued_before` are outdated. A snapshot is not a heartbeat, because a peer that has lost the connection
    /// to its database may send an old one.
    pub fn add_snapshot(&self, snapshot: impl IntoIterator<Item = Uuid>, issued_before: Option<Timestamp>) {
        let now = Instant::now();
        let mut state = self.write();
        state.sessions.extend(snapshot.into_iter().map(|session| (session, now)));
        state.issued_before = state.issued_before.max(issued_before);
        state.has_snapshot = true;
        self.collapse(&mut state, now);
    }

    /// Adds revoked sessions, if any. Each call is also a heartbeat. Heartbeats count only after a snapshot.
    pub fn add(&self, revoked: impl IntoIterator<Item = Uuid>) {
        let now = Instant::now();
        let mut state = self.write();
        state.sessions.extend(revoked.into_iter().map(|session| (session, now)));
        if state.has_snapshot {
            state.last_heartbeat = Some(now);
        }
        if now.duration_since(*state.pruned_at.get_or_insert(now)) > PRUNE_INTERVAL {
            state.sessions.retain(|_, received_at| now.duration_since(*received_at) < RETENTION);
            state.pruned_at = Some(now);
        }
        self.collapse(&mut state, now);
        metrics::gauge!("taskey_revoked_sessions").set(as_gauge(state.sessions.len()));
        drop(state);
        self.updated.send_replace(());
    }

    /// Limits the number of sessions. If there are too many, the older half is replaced by a time after which none of
    /// their tokens was issued, so no revocation is lost. Sessions of the same snapshot have the same age, so they are
    /// replaced together.
    fn collapse(&self, state: &mut State, now: Instant) {
        if state.sessions.len() <= MAX_SESSIONS {
            return;
        }
        let mut times: Vec<_> = state.sessions.values().copied().collect();
        let half = times.len() / 2;
        let last_removed = *times.select_nth_unstable(half).1;
        state.sessions.retain(|_, received_at| *received_at > last_removed);
        let issued_before = self.clock.now() - now.duration_since(last_removed) + claims::LEEWAY;
        state.issued_before = state.issued_before.max(Some(issued_before));
        metrics::counter!("taskey_revocations_collapsed_total").increment(1);
        tracing::warn!(left = state.sessions.len(), "too many revoked sessions; older tokens are treated as expired");
    }

    /// Returns the revoked sessions, and the time before which issued tokens are outdated, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> (Vec<Uuid>, Option<Timestamp>) {
        let state = self.read();
        (state.sessions.keys().copied().collect(), state.issued_before)
    }

    /// Sets the metrics of the revocations that a server has received. Call it regularly.
    pub fn record_metrics(&self, service: &'static str) {
        let (last_heartbeat, freshness) = {
            let state = self.read();
            (state.last_heartbeat, self.compute_freshness(&state))
        };
        for state in Freshness::ALL {
            metrics::gauge!("taskey_feed_state", "service" => service, "state" => state.name())
                .set(f64::from(state == freshness));
        }
        if let Some(last_heartbeat) = last_heartbeat {
            let lag = last_heartbeat.elapsed().as_secs_f64();
            metrics::gauge!("taskey_feed_lag_seconds", "service" => service).set(lag);
        }
    }

    /// Returns a receiver that is notified of every update and heartbeat.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.updated.subscribe()
    }

    /// Calls `report` now and whenever the freshness changes, for as long as it is awaited.
    pub async fn watch_freshness(&self, mut report: impl FnMut(Freshness)) {
        let mut updates = self.subscribe();
        let mut last = None;
        loop {
            let freshness = self.freshness();
            if last.replace(freshness) != Some(freshness) {
                metrics::counter!("taskey_revocation_state_entered_total", "state" => freshness.name()).increment(1);
                report(freshness);
            }
            // The freshness improves with a message, and degrades with time.
            let wait = match freshness {
                Freshness::Fresh => HEARTBEAT_LIMIT,
                _ => Duration::from_millis(250),
            };
            _ = tokio::time::timeout(wait, updates.changed()).await;
        }
    }

    // The lock is held for a lookup or an update, never across an await. A panic cannot leave the map inconsistent, so
    // poisoning is ignored.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
