//! Service tokens: opaque, and known to the database by their hash alone.

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
pub struct Hash(pub(crate) String);

/// Makes a token, which is nowhere else.
#[must_use]
pub fn make() -> (Zeroizing<String>, Hash) {
    let token = service_token(&Key::random());
    let hash = Hash::new(&token);
    (token, hash)
}

impl Hash {
    /// The hash of what may be a service token; `None` if it is something else.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        token.starts_with(SERVICE_TOKEN_PREFIX).then(|| Self::new(token))
    }

    fn new(token: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())))
    }
}

/// The name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub(crate) String);

impl std::str::FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected 1 to 64 letters, digits, dots, hyphens and underscores")
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hash, Name, make};

    #[test]
    fn a_token_is_known_by_its_hash() {
        let (token, hash) = make();
        assert_eq!(Hash::of(&token), Some(hash.clone()));
        assert_ne!(Hash::of(&format!("{}x", *token)), Some(hash));
        assert_eq!(Hash::of("eyJhbGciOiJIUzI1NiJ9.e30.x"), None);
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["task-service", "a", "billing.eu_1", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "two words", "naïve", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
