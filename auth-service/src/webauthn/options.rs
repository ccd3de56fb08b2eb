//! The options that a page passes to `navigator.credentials`, in JSON (W3C WebAuthn, section 5.1.8 and 5.1.9).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{cose::Algorithm, relying_party::RelyingParty};

/// The account that a passkey is created for.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The handle, which is stored in the authenticator instead of the id.
    pub user_handle: &'a [u8],
    /// The email address.
    pub email: &'a str,
    /// The name of its owner, which may be empty.
    pub display_name: &'a str,
}

/// A registered credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The id.
    pub id: Vec<u8>,
    /// The known ways to reach the authenticator, separated by spaces.
    pub transports: String,
}

/// Returns the options for a registration. An authenticator that has one of the `registered` credentials refuses it.
#[must_use]
pub fn creation(
    relying_party: &RelyingParty,
    challenge: &str,
    timeout: Duration,
    account: Account<'_>,
    registered: &[Descriptor],
) -> String {
    let algorithms: Vec<_> =
        Algorithm::ALL.map(|algorithm| json!({"type": "public-key", "alg": algorithm.number()})).into();
    let options = json!({
        "rp": {"id": relying_party.id(), "name": "Taskey"},
        "user": {
            "id": BASE64_URL_SAFE_NO_PAD.encode(account.user_handle),
            "name": account.email,
            "displayName": account.display_name,
        },
        "challenge": challenge,
        "pubKeyCredParams": algorithms,
        "timeout": milliseconds(timeout),
        "excludeCredentials": descriptors(registered),
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": true,
            "userVerification": "preferred",
        },
        "attestation": "none",
        "extensions": {"credProps": true},
    });
    options.to_string()
}

/// Returns the options for a login. Without `allowed` credentials, the user selects one of those that the authenticator
/// stores, which must verify the user.
#[must_use]
pub fn request(relying_party: &RelyingParty, challenge: &str, timeout: Duration, allowed: &[Descriptor]) -> String {
    let options = json!({
        "challenge": challenge,
        "timeout": milliseconds(timeout),
        "rpId": relying_party.id(),
        "allowCredentials": descriptors(allowed),
        "userVerification": if allowed.is_empty() { "required" } else { "preferred" },
    });
    options.to_string()
}

fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

fn descriptors(credentials: &[Descriptor]) -> Vec<Value> {
    let descriptor = |credential: &Descriptor| {
        let transports: Vec<_> = credential.transports.split_whitespace().collect();
        json!({"type": "public-key", "id": BASE64_URL_SAFE_NO_PAD.encode(&credential.id), "transports": transports})
    };
    credentials.iter().map(descriptor).collect()
}
