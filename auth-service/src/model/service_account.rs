//! Service accounts, with which services call for themselves and on behalf of users.

use std::time::Duration;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    auth::{
        credential::ROLE_VERIFIER,
        scope::{Scope, Scopes},
    },
    clock::Timestamp,
    ops::secret_file::Key,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{personal_access_token::LastUse, role::Role, service_certificate::CertificateName};

/// Maximum number of service accounts.
pub const MAX_ACCOUNTS: i64 = 1000;

/// The longest time for which a replaced secret stays valid.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 86_400);

/// The prefix of secrets, so that secret scanners find leaked ones.
const PREFIX: &str = "taskey_client_";

/// The scopes that a service account can have. It is no user, so there is nothing that `account.read` could read.
pub const PERMITTED_SCOPES: [Scope; 6] = [
    Scope::TasksRead,
    Scope::TasksWrite,
    Scope::AdminRead,
    Scope::AdminWrite,
    Scope::TokensVerify,
    Scope::ClientsForward,
];

/// A service account, without its secret.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// The primary key.
    pub id: Uuid,
    /// The name that an administrator gave to it.
    pub label: String,
    /// What its access tokens can permit.
    pub scopes: Scopes,
    /// The name in its certificate, if it authenticates with one.
    pub certificate_name: Option<CertificateName>,
    /// Until when its previous secret is valid, if there is one.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last authenticated.
    pub last_use: LastUse,
}

/// Returns the name under which wrong secrets of a service account are counted, in place of the email address of a user. It
/// is no email address.
#[must_use]
pub fn throttle_name(id: Uuid) -> String {
    format!("service account {id}")
}

/// The hash of the secret of a service account.
#[derive(Clone, Debug)]
pub struct SecretHash(pub(crate) String);

impl SecretHash {
    /// Generates a secret and its hash. Only the hash is stored.
    #[must_use]
    pub fn generate() -> (Zeroizing<String>, Self) {
        let secret = Zeroizing::new(format!("{PREFIX}{}", *Key::random().encode()));
        let hash = Self::new(&secret);
        (secret, hash)
    }

    /// Returns the hash of a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes())))
    }

    /// Compares hashes in constant time.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

/// A service account with the hashes of its secrets.
#[derive(Clone, Debug)]
pub struct StoredClient {
    /// The service account.
    pub account: ServiceAccount,
    /// The hash of the secret, unless it authenticates with a certificate.
    pub hash: Option<SecretHash>,
    /// The hash of the secret before.
    pub previous_hash: Option<SecretHash>,
}

impl StoredClient {
    /// Reports whether a secret is valid.
    #[must_use]
    pub fn accepts(&self, secret: &SecretHash, now: Timestamp) -> bool {
        let is_current = self.hash.as_ref().is_some_and(|hash| hash.is_equal(secret));
        let is_previous = self.previous_hash.as_ref().is_some_and(|hash| hash.is_equal(secret));
        is_current || (is_previous && self.account.previous_expires_at.is_some_and(|expires_at| now < expires_at))
    }
}

/// Returns the roles in the access tokens of a service account with these scopes.
#[must_use]
pub fn roles(scopes: Scopes) -> Vec<String> {
    let can_administer = scopes.contains(Scope::AdminRead) || scopes.contains(Scope::AdminWrite);
    let admin = can_administer.then(|| Role::Admin.to_string());
    let verifier = scopes.contains(Scope::TokensVerify).then(|| ROLE_VERIFIER.to_owned());
    admin.into_iter().chain(verifier).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn client(previous_expires_at: Option<Timestamp>) -> StoredClient {
        let account = ServiceAccount {
            id: Uuid::from_u128(1),
            label: "billing".to_owned(),
            scopes: Scopes::default(),
            certificate_name: None,
            previous_expires_at,
            created_at: NOW,
            last_use: LastUse { day: None, address: String::new() },
        };
        StoredClient { account, hash: Some(SecretHash::new("new")), previous_hash: Some(SecretHash::new("old")) }
    }

    #[test]
    fn previous_secret_is_valid_until_it_expires() {
        let second = Duration::from_secs(1);
        for (expires_at, is_accepted) in [(None, false), (Some(NOW), false), (Some(NOW + second), true)] {
            let client = client(expires_at);
            assert_eq!(client.accepts(&SecretHash::new("old"), NOW), is_accepted, "{expires_at:?}");
            assert!(client.accepts(&SecretHash::new("new"), NOW) && !client.accepts(&SecretHash::new("other"), NOW));
        }
    }

    #[test]
    fn client_with_a_certificate_has_no_secret() {
        let client = StoredClient { hash: None, previous_hash: None, ..client(None) };
        assert!(!client.accepts(&SecretHash::new(""), NOW));
    }

    #[test]
    fn verifiers_and_administrators_have_roles() {
        assert_eq!(roles([Scope::TokensVerify].into_iter().collect()), ["verifier"]);
        assert_eq!(roles([Scope::AdminRead].into_iter().collect()), ["admin"]);
        assert_eq!(roles([Scope::AdminWrite, Scope::TokensVerify].into_iter().collect()), ["admin", "verifier"]);
        assert!(roles([Scope::ClientsForward, Scope::TasksWrite].into_iter().collect()).is_empty());
    }
}
