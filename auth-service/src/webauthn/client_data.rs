//! What the browser adds to the signed data (W3C WebAuthn, section 5.8.1).

use serde::Deserialize;

use super::{rejection::Rejection, relying_party::RelyingParty};

/// What an authenticator is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceremony {
    /// Creating a passkey.
    Registration,
    /// Proving the possession of a passkey.
    Assertion,
}

impl Ceremony {
    fn name(self) -> &'static str {
        match self {
            Self::Registration => "webauthn.create",
            Self::Assertion => "webauthn.get",
        }
    }
}

/// The parsed data. Other members are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientData {
    #[serde(rename = "type")]
    ceremony: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    top_origin: Option<String>,
}

impl ClientData {
    /// Parses the data.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(json: &[u8]) -> Result<Self, Rejection> {
        serde_json::from_slice(json).map_err(|_| Rejection::Malformed("client data"))
    }

    /// Returns the challenge, in base64url. [`check`](Self::check) compares it.
    #[must_use]
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Checks the kind of the response, its challenge and its origin.
    ///
    /// # Errors
    /// If one of them is not as expected.
    pub fn check(&self, ceremony: Ceremony, challenge: &str, relying_party: &RelyingParty) -> Result<(), Rejection> {
        if self.ceremony != ceremony.name() {
            Err(Rejection::WrongType)
        } else if self.challenge != challenge {
            Err(Rejection::WrongChallenge)
        } else if self.origin != relying_party.origin() {
            Err(Rejection::WrongOrigin)
        } else if self.cross_origin || self.top_origin.is_some() {
            Err(Rejection::CrossOrigin)
        } else {
            Ok(())
        }
    }
}
