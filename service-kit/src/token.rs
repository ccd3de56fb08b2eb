//! Access tokens: JWTs in the profile of RFC 9068, as strict as RFC 8725 asks.

use std::time::Duration;

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
    /// Whose token it is: `sub`.
    pub user_id: Uuid,
    /// The session that it belongs to: `sid`.
    pub session_id: Uuid,
    /// What the user may do beyond its own affairs: `roles`.
    pub roles: Vec<String>,
    /// When it expires: `exp`.
    pub expires_at: Timestamp,
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
    kid: &'a str,
    typ: &'a str,
}

/// Signs the token of a grant.
///
/// # Errors
/// If the key cannot sign.
pub fn sign(
    keys: &KeySet,
    names: &TokenArgs,
    id: Uuid,
    grant: &Grant,
    issued_at: Timestamp,
) -> jsonwebtoken::errors::Result<String> {
    let key = keys.signing();
    let mut header = jsonwebtoken::Header::new(key.algorithm);
    header.typ = Some(TOKEN_TYPE.to_owned());
    header.kid = Some(key.id.clone());
    let claims = Claims {
        iss: names.issuer.clone(),
        aud: names.audience.clone(),
        sub: grant.user_id.to_string(),
        sid: grant.session_id.to_string(),
        jti: id.to_string(),
        iat: issued_at.as_seconds(),
        exp: grant.expires_at.as_seconds(),
        nbf: None,
        roles: grant.roles.clone(),
    };
    jsonwebtoken::encode(&header, &claims, &key.signing)
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// Not one of ours. Why is not told.
    Invalid,
    /// One of ours, past its time.
    Expired,
}

impl From<Unacceptable> for Refusal {
    fn from(fault: Unacceptable) -> Self {
        match fault {
            Unacceptable::Invalid => {
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
/// [`Unacceptable::Expired`] if nothing but its time is wrong with the token, else [`Unacceptable::Invalid`].
pub fn verify(keys: &KeySet, names: &TokenArgs, token: &str, now: Timestamp) -> Result<Grant, Unacceptable> {
    let grant = verify_ended(keys, names, token, now)?;
    if grant.expires_at + LEEWAY <= now { Err(Unacceptable::Expired) } else { Ok(grant) }
}

/// As [`verify`], but a token past its time is accepted: enough to say which session it belonged to.
///
/// # Errors
/// [`Unacceptable::Invalid`].
pub fn verify_ended(keys: &KeySet, names: &TokenArgs, token: &str, now: Timestamp) -> Result<Grant, Unacceptable> {
    authentic_claims(keys, token).and_then(|claims| claims.check(names, now)).ok_or(Unacceptable::Invalid)
}

/// The claims of a token whose header names one of our keys and whose signature is right.
fn authentic_claims(keys: &KeySet, token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok()?;
    let key = Header::key(&header, keys)?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.verifying, key.algorithm) {
        Ok(true) => serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok(),
        _ => None,
    }
}

impl Header<'_> {
    /// The key that a header names, if its type is right and its algorithm is that of the key.
    fn key<'k>(header: &[u8], keys: &'k KeySet) -> Option<&'k Key> {
        let header: Header = serde_json::from_slice(header).ok()?;
        let key = keys.by_id(header.kid)?;
        (header.typ == TOKEN_TYPE && header.alg.parse() == Ok(key.algorithm)).then_some(key)
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
        id::parse(&self.jti).filter(|_| in_order)?;
        Some(Grant {
            user_id: id::parse(&self.sub)?,
            session_id: id::parse(&self.sid)?,
            roles: self.roles,
            expires_at: Timestamp::from_seconds(self.exp),
        })
    }
}
