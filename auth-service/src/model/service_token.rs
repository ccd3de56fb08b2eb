//! Service tokens: opaque strings, of which the database stores only the hash.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    auth::{
        credential::{SERVICE_TOKEN_PREFIX, service_token},
        interceptor::scope_missing,
        scope::{Scope, Scopes},
    },
    ops::secret_file::Key,
    status::ApiError,
};
use zeroize::Zeroizing;

/// The hash of a service token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceTokenHash(pub(crate) String);

/// Maximum number of service tokens, which all are kept in memory.
pub const MAX_TOKENS: i64 = 1000;

/// Number of random bytes in a token.
const KEY_BYTES: usize = 32;

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
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let encoded = token.strip_prefix(SERVICE_TOKEN_PREFIX)?;
        // Other lengths do not fit, or leave bytes unused.
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut *key).ok()?;
        (length == KEY_BYTES).then(|| Self::new(token))
    }

    fn new(token: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())))
    }
}

/// The scopes that a service token can have.
pub const SERVICE_SCOPES: [Scope; 2] = [Scope::TokensVerify, Scope::ClientsForward];

/// Parses a scope of a service token.
///
/// # Errors
/// If service tokens cannot have the scope.
pub fn parse_scope(text: &str) -> Result<Scope, &'static str> {
    let scope = text.parse().ok().filter(|scope| SERVICE_SCOPES.contains(scope));
    scope.ok_or("must be tokens.verify or clients.forward")
}

/// Parses scopes as they are stored, separated by spaces. Unknown scopes are ignored.
#[must_use]
pub fn scopes_from_stored(text: &str) -> Scopes {
    text.split_whitespace().filter_map(|scope| parse_scope(scope).ok()).collect()
}

/// Checks that a service token with these scopes has the scope `required`.
///
/// # Errors
/// PERMISSION_DENIED / SCOPE_MISSING.
pub fn require_scope(scopes: Scopes, required: Scope) -> Result<(), ApiError> {
    if scopes.contains(required) { Ok(()) } else { Err(scope_missing("service token", required)) }
}

/// The name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(pub(crate) String);

impl FromStr for ServiceName {
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
    use super::*;

    #[test]
    fn hash_identifies_a_token() {
        let (token, hash) = generate();
        assert_eq!(ServiceTokenHash::from_token(&token), Some(hash.clone()));
        let (other, _) = generate();
        assert!(ServiceTokenHash::from_token(&other).is_some_and(|other| other != hash));
    }

    #[test]
    fn texts_of_another_format_have_no_hash() {
        let (token, _) = generate();
        let (longer, shorter) = (format!("{}x", *token), &token[..token.len() - 1]);
        let not_base64 = format!("{shorter}!");
        let not_canonical = format!("taskey_service_{}B", "A".repeat(42));
        for text in [&longer, shorter, &not_base64, &not_canonical, "taskey_service_", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
            assert_eq!(ServiceTokenHash::from_token(text), None, "{text}");
        }
    }

    #[test]
    fn only_scopes_of_services_are_accepted() {
        let scopes = scopes_from_stored("clients.forward tokens.verify");
        assert_eq!(scopes, SERVICE_SCOPES.into_iter().collect());
        assert_eq!(scopes_from_stored(&scopes.to_string()), scopes);
        let verify = scopes_from_stored("tokens.verify tasks.read");
        assert!(require_scope(verify, Scope::TokensVerify).is_ok());
        assert!(require_scope(verify, Scope::ClientsForward).is_err() && !verify.contains(Scope::TasksRead));
        assert!(scopes_from_stored("").is_empty());
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
