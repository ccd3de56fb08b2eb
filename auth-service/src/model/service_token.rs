//! Service tokens: opaque strings, of which the database stores only the hash.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    auth::credential::{SERVICE_TOKEN_PREFIX, service_token},
    ops::secret_file::Key,
};
use zeroize::Zeroizing;

/// The hash of a service token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceTokenHash(pub(crate) String);

/// Generates a token and its hash. Only the hash is stored.
#[must_use]
pub fn generate() -> (Zeroizing<String>, ServiceTokenHash) {
    let token = service_token(&Key::random());
    let hash = ServiceTokenHash::new(&token);
    (token, hash)
}

impl ServiceTokenHash {
    /// Returns the hash of a service token; `None` if the text does not have the format of one.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        token.starts_with(SERVICE_TOKEN_PREFIX).then(|| Self::new(token))
    }

    fn new(token: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())))
    }
}

/// The name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(pub(crate) String);

impl std::str::FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_empty() && text.len() <= 64 && text.chars().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 64 letters, digits, dots, hyphens or underscores")
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ServiceName, ServiceTokenHash, generate};

    #[test]
    fn hash_identifies_a_token() {
        let (token, hash) = generate();
        assert_eq!(ServiceTokenHash::from_token(&token), Some(hash.clone()));
        assert_ne!(ServiceTokenHash::from_token(&format!("{}x", *token)), Some(hash));
        assert_eq!(ServiceTokenHash::from_token("eyJhbGciOiJIUzI1NiJ9.e30.x"), None);
    }

    #[test]
    fn names_have_a_limited_length_and_character_set() {
        for valid in ["task-service", "a", "billing.eu_1", &"x".repeat(64)] {
            assert!(valid.parse::<ServiceName>().is_ok(), "{valid}");
        }
        for invalid in ["", "two words", "naïve", "a\n", &"x".repeat(65)] {
            assert!(invalid.parse::<ServiceName>().is_err(), "{invalid:?}");
        }
    }
}
