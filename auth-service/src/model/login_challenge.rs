//! The challenge of a login whose password was correct, and which needs a second factor. It is not stored: the token
//! contains it, encrypted.

use std::time::Duration;

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    refresh_token::RefreshKeys,
    sealed::{self, Purpose},
};

/// How long a challenge can be completed.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// An upper bound on the length of tokens. A label has at most 100 characters, of up to 4 bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// A challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginChallenge {
    /// Identifies the challenge, which can be completed once.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// The version of the password that was verified.
    pub password_version: i64,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The name of the session.
    pub label: String,
}

impl LoginChallenge {
    /// Returns the token.
    #[must_use]
    pub fn seal(&self, keys: &RefreshKeys) -> String {
        let mut content = Vec::with_capacity(48 + self.label.len());
        content.extend(self.id.as_bytes());
        content.extend(self.user_id.as_bytes());
        content.extend(self.password_version.to_be_bytes());
        content.extend(self.expires_at.as_micros().to_be_bytes());
        content.extend(self.label.as_bytes());
        sealed::seal(keys.first(), Purpose::LoginChallenge, b"", &content)
    }

    /// Returns the challenge in a token, unless it has expired.
    #[must_use]
    pub fn open(keys: &RefreshKeys, token: &str, now: Timestamp) -> Option<Self> {
        let content = sealed::open(keys, Purpose::LoginChallenge, b"", token)?;
        let (id, rest) = content.split_first_chunk()?;
        let (user_id, rest) = rest.split_first_chunk()?;
        let (password_version, rest) = rest.split_first_chunk()?;
        let (expires_at, label) = rest.split_first_chunk()?;
        let challenge = Self {
            id: Uuid::from_bytes(*id),
            user_id: Uuid::from_bytes(*user_id),
            password_version: i64::from_be_bytes(*password_version),
            expires_at: Timestamp::from_micros(i64::from_be_bytes(*expires_at)),
            label: String::from_utf8(label.to_vec()).ok()?,
        };
        (now < challenge.expires_at).then_some(challenge)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ops::secret_file::Key;

    use super::*;
    use crate::model::refresh_token::RefreshKey;

    #[test]
    fn token_contains_its_challenge_until_it_expires() {
        let keys = RefreshKeys::new(vec![RefreshKey::new(&Key::random())]);
        let challenge = LoginChallenge {
            id: Uuid::from_u128(1),
            user_id: Uuid::from_u128(2),
            password_version: 3,
            expires_at: Timestamp::from_seconds(4),
            label: "🦀".repeat(100),
        };
        let token = challenge.seal(&keys);
        assert!(token.len() <= MAX_TOKEN_BYTES, "{}", token.len());
        assert_eq!(LoginChallenge::open(&keys, &token, Timestamp::from_seconds(3)), Some(challenge));
        assert_eq!(LoginChallenge::open(&keys, &token, Timestamp::from_seconds(4)), None);
        let other_keys = RefreshKeys::new(vec![RefreshKey::new(&Key::random())]);
        assert_eq!(LoginChallenge::open(&other_keys, &token, Timestamp::from_seconds(3)), None);
    }
}
