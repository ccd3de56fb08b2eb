//! The model of a session and its refresh tokens.

use std::time::Duration;

use tonic::Code;

/// The resolution of the clock.
pub const TICK: Duration = Duration::from_micros(1);
pub const SUPERSEDED_WINDOW: Duration = Duration::from_secs(10);
pub const GRACE_PERIOD: Duration = Duration::from_secs(60);
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const MAX_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// The number of rotations that the service stores of a session.
pub const STORED_ROTATIONS: usize = 2;

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// A token pair with the refresh token of this index.
    Token(usize),
    Superseded,
    Reused,
    Invalid,
    LoggedOut,
    /// An error that the contract does not allow.
    Other(Code),
}

/// The state of a session. A token is identified by its index: 0 is the token that the login returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When each token was exchanged for the next.
    pub rotations: Vec<Duration>,
    pub expires_at: Duration,
    pub ends_at: Duration,
    /// If the session was revoked: the result of every refresh since then.
    pub revoked: Option<CallResult>,
}

impl Session {
    pub fn new(now: Duration) -> Self {
        Self { rotations: Vec::new(), expires_at: now + IDLE_TIMEOUT, ends_at: now + MAX_LIFETIME, revoked: None }
    }

    /// Returns the result of a refresh if the last `stored_rotations` rotations are stored. If the token's child was
    /// exchanged before these, the earliest stored rotation is used instead.
    pub fn refresh_result(&self, token: usize, now: Duration, stored_rotations: usize) -> CallResult {
        if let Some(result) = self.revoked {
            return result;
        }
        if self.expires_at <= now {
            return CallResult::Invalid;
        }
        let since = |token: usize| self.rotations.get(token).map(|at| now.saturating_sub(*at));
        let child = (token + 1).max(self.rotations.len().saturating_sub(stored_rotations));
        match (since(token), since(child)) {
            (None, _) => CallResult::Token(token + 1),
            (Some(age), None) if age <= GRACE_PERIOD => CallResult::Token(token + 1),
            (Some(_), Some(age)) if age <= SUPERSEDED_WINDOW => CallResult::Superseded,
            _ => CallResult::Reused,
        }
    }

    /// Refreshes with a token, and rotates if it is the current one. Reuse is only reported: [`Step::RevokeReused`] is
    /// a separate step.
    pub fn refresh(&mut self, token: usize, now: Duration) -> CallResult {
        let result = self.refresh_result(token, now, STORED_ROTATIONS);
        if result == CallResult::Token(self.rotations.len() + 1) {
            self.rotations.push(now);
            self.expires_at = self.ends_at.min(now + IDLE_TIMEOUT);
        }
        result
    }

    /// Adds to `states` every state that can follow if these steps run in any order and have these results.
    pub fn add_successors(self, now: Duration, steps: &[(Step, CallResult)], states: &mut Vec<Self>) {
        if steps.is_empty() && !states.contains(&self) {
            return states.push(self);
        }
        for (index, &(step, actual)) in steps.iter().enumerate().filter(|(i, step)| !steps[..*i].contains(step)) {
            let (mut next, mut rest) = (self.clone(), steps.to_vec());
            rest.remove(index);
            let expected = match step {
                Step::Refresh(token) => next.refresh(token, now),
                Step::Logout(_) => CallResult::LoggedOut,
                Step::RevokeReused => CallResult::Reused,
            };
            match step {
                Step::Logout(_) => _ = next.revoked.get_or_insert(CallResult::Invalid),
                Step::RevokeReused => _ = next.revoked.get_or_insert(CallResult::Reused),
                Step::Refresh(_) if self.revoked.is_some() || expected != CallResult::Reused => {}
                Step::Refresh(_) => rest.push((Step::RevokeReused, expected)),
            }
            if expected == actual {
                next.add_successors(now, &rest, states);
            }
        }
    }

    /// Reports whether a refresh with this token leaves the session unchanged.
    pub fn is_unchanged_by(&self, token: usize, now: Duration) -> bool {
        let mut next = self.clone();
        let revokes = next.refresh(token, now) == CallResult::Reused && self.revoked.is_none();
        next == *self && !revokes
    }

    /// Reports whether the contract allows a result. The service may be laxer in the documented way: if it no longer
    /// stores when the token's child was exchanged, it may use the earliest rotation that it stores.
    pub fn allows(&self, token: usize, now: Duration, result: CallResult) -> bool {
        let contract = self.refresh_result(token, now, usize::MAX);
        let earliest_stored = self.rotations.iter().nth_back(STORED_ROTATIONS - 1);
        let is_forgotten = token + 1 + STORED_ROTATIONS < self.rotations.len();
        let is_lax = is_forgotten && earliest_stored.is_some_and(|at| now.saturating_sub(*at) <= SUPERSEDED_WINDOW);
        result == contract || is_lax && (contract, result) == (CallResult::Reused, CallResult::Superseded)
    }
}

/// An atomic step on a session. The revocation after a reuse is a separate step: other calls may come in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Refresh(usize),
    Logout(usize),
    RevokeReused,
}
