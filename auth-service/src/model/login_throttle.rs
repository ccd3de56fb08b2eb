//! Delays the next password attempt for an account after wrong passwords. Networks from which the account was used are
//! counted separately from all other networks, so that others cannot lock out the owner.

use std::{net::IpAddr, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{clock::Timestamp, network::rate_limit_key};

/// Maximum number of consecutive wrong passwords per day and counter (NIST SP 800-63B-4, section 3.2.2).
pub const MAX_FAILURES: i64 = 100;

/// How long a network remains known after the account was used from it.
pub const KNOWN_NETWORK_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Maximum number of known networks of an account. The one that was used least recently is forgotten first.
pub const MAX_KNOWN_NETWORKS: i64 = 20;

/// The network of the counter that all networks share from which the account was not used.
pub const OTHER_NETWORKS: &str = "";

/// Returns the key under which attempts for an email address in canonical form are counted, whether or not the address
/// has an account.
#[must_use]
pub fn address_key(email: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, email.as_bytes()))
}

/// The account and the network of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ThrottleKey {
    /// The key of the email address.
    pub address: String,
    /// The network of the client: an IPv4 address or an IPv6 /64 network, as in rate limits. Larger networks, such as
    /// an IPv4 /24, could also contain an attacker. [`OTHER_NETWORKS`] if the address of the client is unknown.
    pub network: String,
}

impl ThrottleKey {
    /// Returns the key of an email address in canonical form and a client.
    #[must_use]
    pub fn new(email: &str, client: Option<IpAddr>) -> Self {
        let network = client.map(|client| rate_limit_key(client).to_string());
        Self { address: address_key(email), network: network.unwrap_or_else(|| OTHER_NETWORKS.to_owned()) }
    }

    /// Returns the key of the counter for an attempt, and the counter itself if it exists. `rows` are the counters of
    /// the network and of the other networks, as far as they exist.
    #[must_use]
    pub fn counter(&self, rows: Vec<LoginThrottle>, now: Timestamp) -> (Self, Option<LoginThrottle>) {
        let is_known = rows.iter().any(|row| row.network == self.network && row.is_known(now));
        let network = if is_known { self.network.clone() } else { OTHER_NETWORKS.to_owned() };
        let throttle = rows.into_iter().find(|row| row.network == network);
        (Self { address: self.address.clone(), network }, throttle)
    }
}

/// A counter of wrong passwords.
#[derive(Clone, Debug)]
pub struct LoginThrottle {
    /// The network that is counted.
    pub network: String,
    /// The day that is counted, in days since the Unix epoch.
    pub day: i64,
    /// How many passwords were wrong on that day, after the last correct one.
    pub failures: i64,
    /// When the last password was wrong; 0 after a correct one.
    pub failed_at: Timestamp,
    /// When the account was last used from the network.
    pub succeeded_at: Timestamp,
}

/// Returns the day of a timestamp, in days since the Unix epoch.
#[must_use]
pub fn day(at: Timestamp) -> i64 {
    at.as_seconds().div_euclid(SECONDS_PER_DAY)
}

/// Returns the time until the day ends on which a counter has reached [`MAX_FAILURES`].
#[must_use]
pub fn lock_duration(now: Timestamp) -> Duration {
    Timestamp::from_seconds((day(now) + 1) * SECONDS_PER_DAY).since(now)
}

const SECONDS_PER_DAY: i64 = 24 * 3600;

impl LoginThrottle {
    /// Reports whether the account was used from the network recently.
    fn is_known(&self, now: Timestamp) -> bool {
        self.network != OTHER_NETWORKS && self.succeeded_at > now - KNOWN_NETWORK_TTL
    }

    /// Returns the minimum time between the last failure and the next attempt.
    fn delay(&self) -> Duration {
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
    pub fn remaining_delay(&self, now: Timestamp) -> Duration {
        if self.day != day(now) {
            return Duration::ZERO;
        }
        if self.failures >= MAX_FAILURES {
            return lock_duration(now);
        }
        (self.failed_at + self.delay()).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn throttle(network: &str, failures: i64) -> LoginThrottle {
        let (network, succeeded_at) = (network.to_owned(), Timestamp::from_seconds(0));
        LoginThrottle { network, day: day(NOW), failures, failed_at: NOW, succeeded_at }
    }

    fn delay_after(failures: i64) -> u64 {
        throttle(OTHER_NETWORKS, failures).remaining_delay(NOW).as_secs()
    }

    #[test]
    fn delay_grows_with_the_number_of_failures() {
        let delays = [0, 1, 2, 3, 8, 9, 24, 25, 99].map(delay_after);
        assert_eq!(delays, [0, 1, 1, 3, 3, 5, 5, 10, 10]);
    }

    #[test]
    fn hundred_failures_block_the_rest_of_the_day() {
        assert_eq!(delay_after(100), 24 * 3600 - 1_800_000_000 % (24 * 3600));
        let yesterday = LoginThrottle { day: day(NOW) - 1, ..throttle(OTHER_NETWORKS, 100) };
        assert_eq!(yesterday.remaining_delay(NOW), Duration::ZERO);
    }

    #[test]
    fn network_has_its_own_counter_for_30_days_after_it_was_used() {
        let key = ThrottleKey::new("ann@example.com", Some([192, 0, 2, 1].into()));
        let counter_after = |unused: Duration| {
            let known = LoginThrottle { succeeded_at: NOW - unused, ..throttle("192.0.2.1", 1) };
            let (counter, throttle) = key.counter(vec![throttle(OTHER_NETWORKS, 2), known], NOW);
            (counter.network, throttle.map(|throttle| throttle.failures))
        };
        assert_eq!(counter_after(Duration::from_secs(30 * 86_400 - 1)), ("192.0.2.1".to_owned(), Some(1)));
        assert_eq!(counter_after(KNOWN_NETWORK_TTL), (OTHER_NETWORKS.to_owned(), Some(2)));
        assert_eq!(key.counter(vec![], NOW).0.network, OTHER_NETWORKS);
        let without_address = ThrottleKey::new("ann@example.com", None);
        assert_eq!(without_address.counter(vec![throttle(OTHER_NETWORKS, 2)], NOW).0.network, OTHER_NETWORKS);
    }
}
