//! Repeats requests that a service has not processed, and those without an effect that could not reach it. The policy is
//! that of the service config, with which clients of gRPC do the same.
//!
//! A server ends each connection at its maximum age, and when it shuts down. It refuses the requests that are on their way
//! then (RFC 9113, section 6.8), and neither hyper (1.12) nor tonic (0.14) sends them again.

use std::{
    error::Error,
    iter,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use h2::Reason;
use service_kit::random;

use crate::connection::SendError;

/// How often a request is sent at most.
pub const MAX_ATTEMPTS: u32 = 3;

/// The delay before the second attempt. Each further delay is longer by a factor, up to a maximum.
pub const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// The maximum delay.
pub const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// The factor between delays.
pub const BACKOFF_MULTIPLIER: u32 = 2;

/// Each failed attempt takes a token, and each success returns a part of one. With less than half of them, nothing is
/// retried, so that retries do not multiply the load of an outage.
pub const MAX_TOKENS: u32 = 10;
/// The part of a token that a success returns.
pub const TOKEN_RATIO: f64 = 0.1;

/// When a request may be sent again. A request without this extension is sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// If the service has not processed it.
    IfUnprocessed,
    /// Also if its response was lost, because it has no effect.
    Always,
}

/// The tokens for the retries of a service.
#[derive(Debug)]
pub struct RetryThrottle(Mutex<f64>);

impl Default for RetryThrottle {
    fn default() -> Self {
        Self(Mutex::new(MAX_TOKENS.into()))
    }
}

impl RetryThrottle {
    /// Records an attempt that has reached the service.
    pub fn record_success(&self) {
        let mut tokens = self.tokens();
        *tokens = (*tokens + TOKEN_RATIO).min(MAX_TOKENS.into());
    }

    /// Returns the delay before a failed request is sent again, or `None` if it must not be. `attempts` is how often it
    /// was sent.
    #[must_use]
    pub fn delay(&self, error: &SendError, repeat: Repeat, attempts: u32) -> Option<Duration> {
        if attempts >= MAX_ATTEMPTS {
            return None;
        }
        if was_refused(error) {
            return Some(Duration::ZERO);
        }
        let may_retry = repeat == Repeat::Always || error.is_connect();
        (may_retry && self.take_token()).then(|| backoff(attempts))
    }

    fn take_token(&self) -> bool {
        let mut tokens = self.tokens();
        *tokens = (*tokens - 1.0).max(0.0);
        *tokens > f64::from(MAX_TOKENS) / 2.0
    }

    // Never held across an await.
    fn tokens(&self) -> MutexGuard<'_, f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports whether the service has refused a request without processing it.
fn was_refused(error: &SendError) -> bool {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        let is_goaway = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
        error.is_remote() && (is_goaway || error.reason() == Some(Reason::REFUSED_STREAM))
    })
}

fn backoff(attempts: u32) -> Duration {
    let factor = BACKOFF_MULTIPLIER.saturating_pow(attempts.saturating_sub(1));
    random::vary(INITIAL_BACKOFF.saturating_mul(factor).min(MAX_BACKOFF), 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_up_to_its_maximum() {
        for (attempts, mean) in [(1, 100), (2, 200), (3, 400), (9, 1000)] {
            let (delay, mean) = (backoff(attempts), Duration::from_millis(mean));
            assert!((mean.mul_f64(0.8)..=mean.mul_f64(1.2)).contains(&delay), "{attempts}: {delay:?}");
        }
    }

    #[test]
    fn retries_stop_during_an_outage_and_resume_after_it() {
        let throttle = RetryThrottle::default();
        assert_eq!((0..20).filter(|_| throttle.take_token()).count(), 4);
        for _ in 0..60 {
            throttle.record_success();
        }
        assert!(!throttle.take_token(), "six tokens were returned, and one is taken");
        for _ in 0..11 {
            throttle.record_success();
        }
        assert!(throttle.take_token());
    }
}
