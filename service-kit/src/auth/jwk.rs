//! JWK Sets (RFC 7517) as JSON. Unknown members are preserved.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A JWK Set, including its unknown members.
#[derive(Deserialize, Serialize)]
pub(super) struct JwkSet {
    pub(super) keys: Vec<Jwk>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

impl JwkSet {
    /// Creates a set of these keys.
    pub(super) fn new(keys: Vec<Jwk>) -> Self {
        Self { keys, others: Map::new() }
    }

    /// Parses a set. Its text may be secret, so the error does not quote it, as that of `serde_json` would.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            anyhow::anyhow!("not a JWK Set (RFC 7517): line {}, column {}", error.line(), error.column())
        })
    }

    /// Serializes the set.
    pub(super) fn to_json(&self) -> anyhow::Result<Zeroizing<String>> {
        serde_json::to_string_pretty(self).map(Zeroizing::new).context("cannot serialize a JWK Set")
    }
}

/// A key. Unknown members are allowed and preserved (RFC 7517, section 4).
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
    /// Whether the key was added by a rotation that has not finished. It has not signed anything yet.
    #[serde(rename = "taskey:waiting", default, skip_serializing_if = "is_false")]
    pub(super) waiting: bool,
    /// When the key expires, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<i64>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Jwk {
    /// Creates a signing key without its key material.
    pub(super) fn new(kty: &str, alg: &str, kid: String) -> Self {
        let (kty, alg) = (kty.to_owned(), Some(alg.to_owned()));
        Self { kty, alg, usage: Some("sig".to_owned()), kid, ..Self::default() }
    }
}
