//! Delays the next password attempt for an email address after wrong passwords.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::clock::Timestamp;

use crate::model::email::Email;

/// Maximum number of failed attempts per day.
pub const MAX_FAILURES_PER_DAY: i64 = 100;

/// Maximum number of concurrent attempts.
pub const MAX_PENDING: i64 = 10;

/// Pending attempts are no longer counted if no attempt was permitted for this time.
pub const PENDING_TTL: Duration = Duration::from_secs(10);

/// The key under which the attempts for an email address are counted, whether or not the address has an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleKey(pub(crate) String);

impl From<&Email> for ThrottleKey {
    fn from(email: &Email) -> Self {
        Self::from_address(email.as_str())
    }
}

impl ThrottleKey {
    /// Returns the key of an email address in canonical form.
    #[must_use]
    pub fn from_address(address: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, address.as_bytes())))
    }
}

/// The failed attempts for an email address.
#[derive(Clone, Copy, Debug)]
pub struct LoginThrottle {
    /// The day that is counted, in days since the Unix epoch.
    pub day: i64,
    /// How many attempts failed on that day.
    pub failures: i64,
    /// When the last attempt failed; 0 after a correct password.
    pub failed_at: Timestamp,
}

/// Returns the day of a timestamp, in days since the Unix epoch.
#[must_use]
pub fn day(at: Timestamp) -> i64 {
    at.as_seconds().div_euclid(SECONDS_PER_DAY)
}

const SECONDS_PER_DAY: i64 = 24 * 3600;

impl LoginThrottle {
    /// Returns the minimum time between the last failure and the next attempt. The statement in `store::login_attempts`
    /// contains the same delays.
    fn delay(self) -> Duration {
        Duration::from_secs(match self.failures {
            ..1 => 0,
            1..3 => 1,
            3..9 => 3,
            9..25 => 5,
            25.. => 10,
        })
    }

    /// Returns how long the next attempt has to wait; zero if it is permitted now.
    #[must_use]
    pub fn remaining_delay(self, now: Timestamp) -> Duration {
        if self.day != day(now) {
            return Duration::ZERO;
        }
        if self.failures >= MAX_FAILURES_PER_DAY {
            return Timestamp::from_seconds((self.day + 1) * SECONDS_PER_DAY).since(now);
        }
        (self.failed_at + self.delay()).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn delay_after(failures: i64) -> u64 {
        LoginThrottle { day: day(NOW), failures, failed_at: NOW }.remaining_delay(NOW).as_secs()
    }

    #[test]
    fn delay_grows_with_the_number_of_failures() {
        let delays = [0, 1, 2, 3, 8, 9, 24, 25, 99].map(delay_after);
        assert_eq!(delays, [0, 1, 1, 3, 3, 5, 5, 10, 10]);
    }

    #[test]
    fn hundred_failures_block_the_rest_of_the_day() {
        assert_eq!(delay_after(100), 24 * 3600 - 1_800_000_000 % (24 * 3600));
        let yesterday = LoginThrottle { day: day(NOW) - 1, failures: 100, failed_at: NOW };
        assert_eq!(yesterday.remaining_delay(NOW), Duration::ZERO);
    }
}
