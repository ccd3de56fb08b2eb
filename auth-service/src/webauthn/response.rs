//! The responses of browsers, in the JSON that `PublicKeyCredential.toJSON()` returns (W3C WebAuthn, section 5.1).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de};

use super::{client_data::ClientData, rejection::Rejection};

/// Maximum length of a response in JSON. Those of authenticators have about 1 KiB.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024;

const PART: &str = "response";

/// The transports of an authenticator that are stored. Others are ignored.
const TRANSPORTS: [&str; 6] = ["ble", "hybrid", "internal", "nfc", "smart-card", "usb"];

/// A credential with the response of its authenticator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential<R> {
    #[serde(deserialize_with = "base64url")]
    id: Vec<u8>,
    #[serde(deserialize_with = "base64url")]
    raw_id: Vec<u8>,
    #[serde(rename = "type")]
    kind: String,
    response: R,
}

/// The response to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationResponse {
    #[serde(rename = "clientDataJSON", deserialize_with = "base64url")]
    client_data_json: Vec<u8>,
    #[serde(deserialize_with = "base64url")]
    attestation_object: Vec<u8>,
    #[serde(default)]
    transports: Vec<String>,
}

/// The response to a login.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssertionResponse {
    #[serde(rename = "clientDataJSON", deserialize_with = "base64url")]
    client_data_json: Vec<u8>,
    #[serde(deserialize_with = "base64url")]
    authenticator_data: Vec<u8>,
    #[serde(deserialize_with = "base64url")]
    signature: Vec<u8>,
    #[serde(default, deserialize_with = "optional_base64url")]
    user_handle: Option<Vec<u8>>,
}

/// A parsed response to a registration.
pub type Registration = Credential<AttestationResponse>;

/// A parsed response to a login.
pub type Assertion = Credential<AssertionResponse>;

impl<R: de::DeserializeOwned> Credential<R> {
    /// Parses a response.
    ///
    /// # Errors
    /// If it is malformed or too long.
    pub fn parse(json: &str) -> Result<Self, Rejection> {
        if json.len() > MAX_RESPONSE_BYTES {
            return Err(Rejection::Malformed(PART));
        }
        let parsed: Self = serde_json::from_str(json).map_err(|_| Rejection::Malformed(PART))?;
        let is_valid = parsed.id == parsed.raw_id && parsed.kind == "public-key";
        if is_valid { Ok(parsed) } else { Err(Rejection::Malformed(PART)) }
    }

    /// Returns the id of the credential.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }
}

impl Registration {
    /// Returns the client data, as it was hashed.
    #[must_use]
    pub fn client_data_json(&self) -> &[u8] {
        &self.response.client_data_json
    }

    /// Parses the client data.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn client_data(&self) -> Result<ClientData, Rejection> {
        ClientData::parse(self.client_data_json())
    }

    /// Returns the attestation object.
    #[must_use]
    pub fn attestation_object(&self) -> &[u8] {
        &self.response.attestation_object
    }

    /// Returns the known ways to reach the authenticator, separated by spaces.
    #[must_use]
    pub fn transports(&self) -> String {
        let is_reported = |name: &&str| self.response.transports.iter().any(|transport| transport == name);
        TRANSPORTS.into_iter().filter(is_reported).collect::<Vec<_>>().join(" ")
    }
}

impl Assertion {
    /// Returns the client data, as it was hashed.
    #[must_use]
    pub fn client_data_json(&self) -> &[u8] {
        &self.response.client_data_json
    }

    /// Parses the client data.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn client_data(&self) -> Result<ClientData, Rejection> {
        ClientData::parse(self.client_data_json())
    }

    /// Returns the data of the authenticator, as it was signed.
    #[must_use]
    pub fn authenticator_data(&self) -> &[u8] {
        &self.response.authenticator_data
    }

    /// Returns the signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.response.signature
    }

    /// Returns the user handle, which authenticators omit if the credential was listed in the request.
    #[must_use]
    pub fn user_handle(&self) -> Option<&[u8]> {
        self.response.user_handle.as_deref()
    }
}

fn base64url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(de::Error::custom)
}

fn optional_base64url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(de::Error::custom)).transpose()
}
