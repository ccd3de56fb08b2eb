//! Service tokens: opaque strings, of which the database stores only the hash.

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    auth::credential::{SERVICE_TOKEN_PREFIX, service_token},
    ops::secret_file::Key,
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
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

/// What a service token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To verify tokens: introspection and the feed of revocations.
    TokensVerify,
    /// To call on behalf of clients, whose addresses are forwarded.
    ClientsForward,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 2] = [Self::TokensVerify, Self::ClientsForward];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokensVerify => "tokens.verify",
            Self::ClientsForward => "clients.forward",
        })
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scope = Self::ALL.into_iter().find(|scope| scope.to_string() == text);
        scope.ok_or("must be tokens.verify or clients.forward")
    }
}

/// The scopes of a service token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl Scopes {
    /// Parses scopes as they are stored, separated by spaces. Unknown scopes are ignored.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        text.split_whitespace().filter_map(|scope| scope.parse().ok()).collect()
    }

    /// Checks that `scope` is one of the scopes.
    ///
    /// # Errors
    /// PERMISSION_DENIED / SCOPE_MISSING.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.0.contains(&scope) {
            return Ok(());
        }
        let message = format!("the service token does not have the scope `{scope}`");
        let error = ApiError::new(Code::PermissionDenied, ErrorReason::ScopeMissing, message);
        Err(error.metadata("required", scope))
    }
}

impl fmt::Display for Scopes {
    /// Writes the scopes as they are stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" "))
    }
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
    use super::{Scope, Scopes, ServiceName, ServiceTokenHash, generate};

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
    fn scopes_have_one_stored_form() {
        let scopes = Scopes::from_stored("clients.forward tokens.verify");
        assert_eq!(scopes, Scope::ALL.into_iter().collect());
        assert_eq!(Scopes::from_stored(&scopes.to_string()), scopes);
        let verify = Scopes::from_stored("tokens.verify");
        assert!(verify.require(Scope::TokensVerify).is_ok() && verify.require(Scope::ClientsForward).is_err());
        assert_eq!(Scopes::from_stored(""), Scopes::default());
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
