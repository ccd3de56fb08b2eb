//! Access tokens: JWTs in the profile of RFC 9068, as strict as RFC 8725 asks.

use std::{borrow::Cow, time::Duration};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    config::TokenArgs,
    id,
    keys::{Key, KeySet},
    status::Refusal,
};

/// No access token lives longer, whoever signed it.
pub const MAX_LIFE: Duration = Duration::from_secs(15 * 60);

/// How far the clocks of two machines may be apart.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// A longer token is refused before anything of it is decoded.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The `typ` of an access token (RFC 9068, section 2.1), so that no other kind of JWT passes for one.
const TOKEN_TYPE: &str = "at+jwt";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which token it is: `jti`.
    pub id: Uuid,
    /// Whose token it is: `sub`.
    pub user_id: Uuid,
    /// The session that it belongs to: `sid`.
    pub session_id: Uuid,
    /// What the user may do beyond its own affairs: `roles`.
    pub roles: Vec<String>,
    /// When it was issued: `iat`.
    pub issued_at: Timestamp,
    /// When it expires: `exp`.
    pub expires_at: Timestamp,
}

impl Grant {
    /// Whether its time is over, even if the clocks of two machines are apart.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at + LEEWAY <= now
    }
}

/// The payload of a token. Serde refuses it if a member is missing, mistyped or doubled.
#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    jti: String,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
    nbf: Option<i64>,
    roles: Vec<String>,
}

/// `null` is not the same as absent.
fn present<'de, D: serde::Deserializer<'de>>(claim: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(claim).map(Some)
}

/// The only header that is accepted. Whatever else a header may name (`crit`, `jwk`, `jku`, `x5u`, `zip`, `b64`) is
/// refused by not being known here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    /// Not every name of a key can be borrowed: a quote in it is escaped.
    #[serde(borrow)]
    kid: Cow<'a, str>,
    typ: &'a str,
}

/// Signs the token of a grant.
///
/// # Errors
/// If there is no key to sign with.
pub fn sign(keys: &KeySet, names: &TokenArgs, grant: &Grant) -> anyhow::Result<String> {
    let (key, signing) = keys.signing().context("the first key is a public one")?;
    let mut header = jsonwebtoken::Header::new(key.algorithm);
    header.typ = Some(TOKEN_TYPE.to_owned());
    header.kid = Some(key.id.clone());
    let claims = Claims {
        iss: names.issuer.clone(),
        aud: names.audience.clone(),
        sub: grant.user_id.to_string(),
        sid: grant.session_id.to_string(),
        jti: grant.id.to_string(),
        iat: grant.issued_at.as_seconds(),
        exp: grant.expires_at.as_seconds(),
        nbf: None,
        roles: grant.roles.clone(),
    };
    Ok(jsonwebtoken::encode(&header, &claims, signing)?)
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// Not one of ours. Why is not told.
    Invalid,
    /// It names a key that is not known here. It may be a new one, where keys could not be heard of lately.
    KeyUnknown,
    /// One of ours, past its time.
    Expired,
}

impl From<Unacceptable> for Refusal {
    fn from(fault: Unacceptable) -> Self {
        match fault {
            Unacceptable::Invalid | Unacceptable::KeyUnknown => {
                Self::new(Code::Unauthenticated, ErrorReason::TokenInvalid, "the access token is not valid")
            }
            Unacceptable::Expired => {
                Self::new(Code::Unauthenticated, ErrorReason::TokenExpired, "the access token has expired")
            }
        }
    }
}

/// Checks the form, the signature and every claim of a token, in this order, with no I/O. It does not know whether
/// the session has been revoked.
///
/// # Errors
/// [`Unacceptable::Expired`] if nothing but its time is wrong with the token, [`Unacceptable::KeyUnknown`] if its key
/// is not known, else [`Unacceptable::Invalid`].
pub fn verify(keys: &KeySet, names: &TokenArgs, token: &str, now: Timestamp) -> Result<Grant, Unacceptable> {
    let grant = verify_ended(keys, names, token, now)?;
    if grant.has_expired(now) { Err(Unacceptable::Expired) } else { Ok(grant) }
}

/// As [`verify`], but a token past its time is accepted: enough to say which session it belonged to.
///
/// # Errors
/// [`Unacceptable::Invalid`] or [`Unacceptable::KeyUnknown`].
pub fn verify_ended(keys: &KeySet, names: &TokenArgs, token: &str, now: Timestamp) -> Result<Grant, Unacceptable> {
    let parts = Parts::of(token).ok_or(Unacceptable::Invalid)?;
    let key = Header::key(&parts.header, keys)?;
    parts.claims(key).and_then(|claims| claims.check(names, now)).ok_or(Unacceptable::Invalid)
}

/// A token in its parts, of which only the header has been decoded.
struct Parts<'a> {
    /// What was signed: header and payload.
    message: &'a str,
    header: Vec<u8>,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        Some(Self { message, header: BASE64_URL_SAFE_NO_PAD.decode(header).ok()?, payload, signature })
    }

    /// What it claims, if the key has signed it.
    fn claims(&self, key: &Key) -> Option<Claims> {
        let signed = key.has_signed(self.message, self.signature).then_some(self.payload)?;
        object(&BASE64_URL_SAFE_NO_PAD.decode(signed).ok()?)
    }
}

/// Reads an object of JSON. Serde alone would take a list of the values too, and not look whether what it skips is
/// UTF-8.
fn object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    let text = std::str::from_utf8(json).ok().filter(|text| text.starts_with('{'))?;
    serde_json::from_str(text).ok()
}

impl Header<'_> {
    /// The key that a header names, if its type is right and its algorithm is that of the key.
    fn key<'k>(header: &[u8], keys: &'k KeySet) -> Result<&'k Key, Unacceptable> {
        let header: Header = object(header).ok_or(Unacceptable::Invalid)?;
        let key = keys.by_id(&header.kid).ok_or(Unacceptable::KeyUnknown)?;
        let fits = header.typ == TOKEN_TYPE && header.alg.parse() == Ok(key.algorithm);
        if fits { Ok(key) } else { Err(Unacceptable::Invalid) }
    }
}

impl Claims {
    fn check(self, names: &TokenArgs, now: Timestamp) -> Option<Grant> {
        let latest = (now + LEEWAY).as_seconds();
        let life = self.exp.checked_sub(self.iat)?;
        let in_order = self.iss == names.issuer
            && self.aud == names.audience
            && self.iat <= latest
            && self.nbf.is_none_or(|not_before| not_before <= latest)
            && life > 0
            && Duration::from_secs(life.unsigned_abs()) <= MAX_LIFE;
        Some(Grant {
            id: id::parse(&self.jti).filter(|_| in_order)?,
            user_id: id::parse(&self.sub)?,
            session_id: id::parse(&self.sid)?,
            roles: self.roles,
            issued_at: Timestamp::from_seconds(self.iat),
            expires_at: Timestamp::from_seconds(self.exp),
        })
    }
}
