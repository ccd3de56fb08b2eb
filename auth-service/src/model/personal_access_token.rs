//! Personal access tokens, with which programs call on behalf of a user.

use std::time::Duration;

use ipnet::IpNet;
use service_kit::{auth::scope::Scopes, clock::Timestamp};
use uuid::Uuid;

/// Maximum number of active tokens of an account.
pub const MAX_TOKENS: i64 = 50;

/// Maximum number of networks of a token.
pub const MAX_NETWORKS: usize = 20;

/// Maximum lifetime of a token.
pub const MAX_LIFETIME: Duration = Duration::from_secs(366 * 86_400);

/// The lifetime of a token that is created without an expiry.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

const SECONDS_PER_DAY: i64 = 86_400;

/// A token, without its secret.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// The primary key.
    pub id: Uuid,
    /// The session that ends with the token.
    pub session_id: Uuid,
    /// The name that the user gave to the token.
    pub label: String,
    /// What the token permits.
    pub scopes: Scopes,
    /// Where it can be used; empty for everywhere.
    pub networks: Vec<IpNet>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was last used.
    pub last_use: LastUse,
}

/// The last use of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The day since the Unix epoch; `None` if the token was not used.
    pub day: Option<i64>,
    /// The address of the client, or empty.
    pub address: String,
}

impl LastUse {
    /// Returns a use at this time.
    #[must_use]
    pub fn new(now: Timestamp, address: String) -> Self {
        Self { day: Some(now.as_seconds().div_euclid(SECONDS_PER_DAY)), address }
    }

    /// Returns the day in the form `2026-11-29`, or an empty text if the token was not used.
    #[must_use]
    pub fn date(&self) -> String {
        let time = self.day.map(|day| Timestamp::from_seconds(day * SECONDS_PER_DAY).to_string());
        time.and_then(|time| time.split_once('T').map(|(date, _)| date.to_owned())).unwrap_or_default()
    }
}

/// Parses scopes as they are stored, separated by spaces. Unknown scopes are ignored.
#[must_use]
pub fn scopes_from_stored(text: &str) -> Scopes {
    text.split_whitespace().filter_map(|scope| scope.parse().ok()).collect()
}

/// Parses networks as they are stored. Returns `None` if one is invalid, so that the token is not accepted from
/// everywhere.
#[must_use]
pub fn networks_from_stored(text: &str) -> Option<Vec<IpNet>> {
    text.split_whitespace().map(|network| network.parse().ok()).collect()
}

/// Returns networks as they are stored.
#[must_use]
pub fn networks_to_stored(networks: &[IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_use_is_a_day_in_utc() {
        let last_use = LastUse::new(Timestamp::from_seconds(1_795_910_399), String::new());
        assert_eq!(last_use.date(), "2026-11-28");
        assert_eq!(LastUse { day: None, address: String::new() }.date(), "");
    }

    #[test]
    fn stored_networks_are_read_completely_or_not_at_all() {
        let networks = networks_from_stored("192.0.2.0/24 2001:db8::/32").expect("valid");
        assert_eq!(networks_to_stored(&networks), "192.0.2.0/24 2001:db8::/32");
        assert_eq!(networks_from_stored(""), Some(vec![]));
        assert_eq!(networks_from_stored("192.0.2.0/24 x"), None);
    }
}
