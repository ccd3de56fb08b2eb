//! Limits how often an event is logged that clients can cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// An event is logged at most once per this interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often one kind of event is logged.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Logged>);

#[derive(Debug, Default)]
struct Logged {
    at: Option<Instant>,
    omitted: u64,
}

impl LogLimit {
    /// Returns how many events were not logged since the last one, if an event may be logged now. Counts it otherwise.
    #[must_use]
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            logged.omitted += 1;
            return None;
        }
        let omitted = std::mem::take(&mut logged.omitted);
        logged.at = Some(now);
        Some(omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_events_are_reported_by_the_next_one_that_is_logged() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.admit(start), Some(0));
        assert_eq!(limit.admit(start + INTERVAL / 2), None);
        assert_eq!(limit.admit(start + INTERVAL / 2), None);
        assert_eq!(limit.admit(start + INTERVAL), Some(2));
        assert_eq!(limit.admit(start + INTERVAL * 3), Some(0));
    }
}
