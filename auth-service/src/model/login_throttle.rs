//! How long a password cannot be tried after wrong ones.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::clock::Timestamp;

use crate::model::email::Email;

/// Maximum number of failed attempts on one day.
pub const MAX_A_DAY: i64 = 100;

/// Maximum number of concurrent attempts.
pub const MAX_PENDING: i64 = 10;

/// After this time, an attempt without an outcome no longer counts.
pub const PENDING_TTL: Duration = Duration::from_secs(10);

/// What guesses at an account are counted under. An address need not have an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleKey(pub(crate) String);

impl From<&Email> for ThrottleKey {
    fn from(email: &Email) -> Self {
        Self::of(email.as_str())
    }
}

impl ThrottleKey {
    /// Of an address in its canonical form.
    #[must_use]
    pub fn of(address: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, address.as_bytes())))
    }
}

/// What is known of the guesses at an account.
#[derive(Clone, Copy, Debug)]
pub struct LoginThrottle {
    /// The day since the Unix epoch that is counted.
    pub day: i64,
    /// How many have failed on it.
    pub failures: i64,
    /// When the last one failed.
    pub failed_at: Timestamp,
}

/// The day of an instant, since the Unix epoch.
#[must_use]
pub fn day(at: Timestamp) -> i64 {
    at.as_seconds().div_euclid(DAY)
}

const DAY: i64 = 24 * 3600;

impl LoginThrottle {
    /// How long after the last failure the next attempt may come.
    fn delay(self) -> Duration {
        Duration::from_secs(match self.failures {
            ..1 => 0,
            1..3 => 1,
            3..9 => 3,
            9..25 => 5,
            25.. => 10,
        })
    }

    /// How long to wait from `now` on; zero if the next attempt may come.
    #[must_use]
    pub fn wait(self, now: Timestamp) -> Duration {
        if self.day != day(now) {
            return Duration::ZERO;
        }
        if self.failures >= MAX_A_DAY {
            return Timestamp::from_seconds((self.day + 1) * DAY).since(now);
        }
        (self.failed_at + self.delay()).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn wait(failures: i64) -> u64 {
        LoginThrottle { day: day(NOW), failures, failed_at: NOW }.wait(NOW).as_secs()
    }

    #[test]
    fn each_failure_makes_the_next_attempt_wait() {
        let waits = [0, 1, 2, 3, 8, 9, 24, 25, 99].map(wait);
        assert_eq!(waits, [0, 1, 1, 3, 3, 5, 5, 10, 10]);
    }

    #[test]
    fn after_a_hundred_the_day_is_over() {
        assert_eq!(wait(100), 24 * 3600 - 1_800_000_000 % (24 * 3600));
        let yesterday = LoginThrottle { day: day(NOW) - 1, failures: 100, failed_at: NOW };
        assert_eq!(yesterday.wait(NOW), Duration::ZERO);
    }
}
