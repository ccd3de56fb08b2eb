//! The text of a JWK Set (RFC 7517), member by member.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A JWK Set, with all that stands in it.
#[derive(Deserialize, Serialize)]
pub(super) struct JwkSet {
    pub(super) keys: Vec<Jwk>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

impl JwkSet {
    /// A set of these keys.
    pub(super) fn new(keys: Vec<Jwk>) -> Self {
        Self { keys, others: Map::new() }
    }

    /// Reads a set. No text of it is in the error, as the one of `serde_json` would be.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            anyhow::anyhow!("not a JWK Set (RFC 7517): line {}, column {}", error.line(), error.column())
        })
    }

    /// The text of the set.
    pub(super) fn write(&self) -> anyhow::Result<Zeroizing<String>> {
        serde_json::to_string_pretty(self).map(Zeroizing::new).context("a JWK Set is JSON")
    }
}

/// A key. Members that are not named here may be there, and are left alone (RFC 7517, section 4).
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Jwk {
    pub(super) kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<String>,
    pub(super) kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) d: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) k: Option<Zeroizing<String>>,
    /// When the key begins to sign, in seconds since the Unix epoch; until then it stands behind another one. A
    /// rotation marks the key by it that it is about to put first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    /// When the key is no longer good for anything, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<i64>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

impl Jwk {
    /// A key to sign with, its material still missing.
    pub(super) fn new(kty: &str, alg: &str, kid: String) -> Self {
        let (kty, alg) = (kty.to_owned(), Some(alg.to_owned()));
        Self { kty, alg, usage: Some("sig".to_owned()), kid, ..Self::default() }
    }
}
