//! Verifies a login with a passkey (W3C WebAuthn, section 7.2).

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    authenticator_data::AuthenticatorData, client_data::Ceremony, cose::PublicKey, rejection::Rejection,
    relying_party::RelyingParty, response::Assertion,
};

/// What is stored about the credential of a response.
#[derive(Clone, Copy, Debug)]
pub struct StoredCredential<'a> {
    /// The id.
    pub id: &'a [u8],
    /// The public key, in the form of COSE.
    pub public_key: &'a [u8],
    /// The handle of its owner.
    pub user_handle: &'a [u8],
    /// The number of signatures at the last use.
    pub sign_count: u32,
}

/// How a response must have been made.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The site.
    pub relying_party: &'a RelyingParty,
    /// The challenge, in base64url.
    pub challenge: &'a str,
    /// Whether the passkey replaces the password: the authenticator must have verified the user, and the response must
    /// name the user.
    pub is_passwordless: bool,
}

/// How the signature counter has changed since the last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// It is larger, or the authenticator has never counted.
    Consistent,
    /// It is zero, and was not before. Authenticators do so when the user moves the passkey to one that does not count.
    Stopped,
    /// It is not larger, so there is probably a copy of the passkey.
    WentBack,
}

impl Counter {
    /// Compares the stored and the new counter. W3C WebAuthn (section 7.2, step 22) lets the site decide what follows.
    #[must_use]
    pub fn compare(stored: u32, new: u32) -> Self {
        match (stored, new) {
            (0, _) => Self::Consistent,
            (_, 0) => Self::Stopped,
            _ if new > stored => Self::Consistent,
            _ => Self::WentBack,
        }
    }
}

/// What a valid response proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The new signature counter.
    pub sign_count: u32,
    /// How the counter has changed.
    pub counter: Counter,
    /// Whether the authenticator has verified the user.
    pub user_verified: bool,
    /// Whether the credential may be copied to other devices of the user. It may change.
    pub backup_eligible: bool,
    /// Whether it has been copied.
    pub backed_up: bool,
}

/// Verifies a response. The caller decides what a counter that went back means.
///
/// # Errors
/// If the response is malformed, or belongs to another challenge, site, user or credential.
pub fn verify(
    response: &Assertion,
    expected: Expected<'_>,
    stored: StoredCredential<'_>,
) -> Result<Verification, Rejection> {
    let Expected { relying_party, challenge, is_passwordless } = expected;
    response.client_data()?.check(Ceremony::Assertion, challenge, relying_party)?;
    let is_owner = response.user_handle().map_or(!is_passwordless, |handle| handle == stored.user_handle);
    if response.id() != stored.id || !is_owner {
        return Err(Rejection::WrongCredential);
    }
    let data = AuthenticatorData::parse(response.authenticator_data())?;
    data.check(relying_party, is_passwordless)?;
    let client_data_hash = digest(&SHA256, response.client_data_json());
    let signed = [response.authenticator_data(), client_data_hash.as_ref()].concat();
    PublicKey::parse(stored.public_key)?.verify(&signed, response.signature())?;
    Ok(Verification {
        sign_count: data.sign_count,
        counter: Counter::compare(stored.sign_count, data.sign_count),
        user_verified: data.is_user_verified(),
        backup_eligible: data.is_backup_eligible(),
        backed_up: data.is_backed_up(),
    })
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn only_a_counter_that_counts_can_go_back() {
        for (stored, new, expected) in [
            (0, 0, Counter::Consistent),
            (0, 7, Counter::Consistent),
            (7, 8, Counter::Consistent),
            (7, 0, Counter::Stopped),
            (7, 7, Counter::WentBack),
            (7, 6, Counter::WentBack),
        ] {
            assert_eq!(Counter::compare(stored, new), expected, "{stored} {new}");
        }
    }
}
