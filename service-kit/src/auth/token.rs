//! Access tokens: JWTs in the profile of RFC 9068, verified as strictly as RFC 8725 requires.

use std::{borrow::Cow, time::Duration};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use crate::{
    auth::keys::{Key, KeySet},
    clock::Timestamp,
    id,
    ops::config::TokenArgs,
    status::ApiError,
};

/// Maximum lifetime of access tokens.
pub const MAX_LIFE: Duration = Duration::from_secs(15 * 60);

/// Maximum difference between the clocks of two machines.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Longer tokens are refused before they are decoded.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The `typ` of access tokens (RFC 9068, section 2.1), so that other kinds of JWT are refused.
const TOKEN_TYPE: &str = "at+jwt";

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// The id of the token: `jti`.
    pub id: Uuid,
    /// The user: `sub`.
    pub user_id: Uuid,
    /// The session: `sid`.
    pub session_id: Uuid,
    /// The roles of the user: `roles`.
    pub roles: Vec<String>,
    /// When it was issued: `iat`.
    pub issued_at: Timestamp,
    /// When it expires: `exp`.
    pub expires_at: Timestamp,
}

impl AccessClaims {
    /// Reports whether the token has expired, allowing for [`LEEWAY`].
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at + LEEWAY <= now
    }
}

/// The payload of a token. Serde refuses missing, mistyped and duplicated members.
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

/// The only accepted header. All other members (`crit`, `jwk`, `jku`, `x5u`, `zip`, `b64`) are unknown and refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    /// A `kid` with escaped characters cannot be borrowed.
    #[serde(borrow)]
    kid: Cow<'a, str>,
    typ: &'a str,
}

/// Signs an access token.
///
/// # Errors
/// If there is no signing key.
pub fn sign(keys: &KeySet, names: &TokenArgs, grant: &AccessClaims) -> anyhow::Result<String> {
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
    /// Not issued by this server. The cause is not distinguished.
    Invalid,
    /// Signed with an unknown key, which may be a new one that has not been received yet.
    KeyUnknown,
    /// Valid, but expired.
    Expired,
}

impl From<Unacceptable> for ApiError {
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

/// Verifies the format, the signature and every claim of a token, in this order, without I/O. Does not check whether
/// the session was revoked.
///
/// # Errors
/// [`Unacceptable::Expired`] if the token is otherwise valid, [`Unacceptable::KeyUnknown`] if its key is not known,
/// else [`Unacceptable::Invalid`].
pub fn verify(keys: &KeySet, names: &TokenArgs, token: &str, now: Timestamp) -> Result<AccessClaims, Unacceptable> {
    let grant = verify_ended(keys, names, token, now)?;
    if grant.has_expired(now) { Err(Unacceptable::Expired) } else { Ok(grant) }
}

/// Like [`verify`], but accepts expired tokens, to identify their session.
///
/// # Errors
/// [`Unacceptable::Invalid`] or [`Unacceptable::KeyUnknown`].
pub fn verify_ended(
    keys: &KeySet,
    names: &TokenArgs,
    token: &str,
    now: Timestamp,
) -> Result<AccessClaims, Unacceptable> {
    let parts = Parts::of(token).ok_or(Unacceptable::Invalid)?;
    let key = Header::key(&parts.header, keys)?;
    parts.claims(key).and_then(|claims| claims.check(names, now)).ok_or(Unacceptable::Invalid)
}

/// The parts of a token, of which only the header has been decoded.
struct Parts<'a> {
    /// The signed part: header and payload.
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

    /// Returns the claims if the signature is valid.
    fn claims(&self, key: &Key) -> Option<Claims> {
        let signed = key.has_signed(self.message, self.signature).then_some(self.payload)?;
        object(&BASE64_URL_SAFE_NO_PAD.decode(signed).ok()?)
    }
}

/// Parses a JSON object. Serde alone would also accept a list of the values, and invalid UTF-8 in skipped values.
fn object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    let text = std::str::from_utf8(json).ok().filter(|text| text.starts_with('{'))?;
    serde_json::from_str(text).ok()
}

impl Header<'_> {
    /// Returns the key of the token, if the `typ` and the algorithm are right.
    fn key<'k>(header: &[u8], keys: &'k KeySet) -> Result<&'k Key, Unacceptable> {
        let header: Header = object(header).ok_or(Unacceptable::Invalid)?;
        let key = keys.by_id(&header.kid).ok_or(Unacceptable::KeyUnknown)?;
        let fits = header.typ == TOKEN_TYPE && header.alg.parse() == Ok(key.algorithm);
        if fits { Ok(key) } else { Err(Unacceptable::Invalid) }
    }
}

impl Claims {
    fn check(self, names: &TokenArgs, now: Timestamp) -> Option<AccessClaims> {
        let latest = (now + LEEWAY).as_seconds();
        let life = self.exp.checked_sub(self.iat)?;
        let in_order = self.iss == names.issuer
            && self.aud == names.audience
            && self.iat <= latest
            && self.nbf.is_none_or(|not_before| not_before <= latest)
            && life > 0
            && Duration::from_secs(life.unsigned_abs()) <= MAX_LIFE;
        Some(AccessClaims {
            id: id::parse(&self.jti).filter(|_| in_order)?,
            user_id: id::parse(&self.sub)?,
            session_id: id::parse(&self.sid)?,
            roles: self.roles,
            issued_at: Timestamp::from_seconds(self.iat),
            expires_at: Timestamp::from_seconds(self.exp),
        })
    }
}
