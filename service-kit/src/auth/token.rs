//! Access tokens: JWTs in the profile of RFC 9068, verified as strictly as RFC 8725 requires.

use std::{borrow::Cow, sync::Arc};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

pub use super::claims::{ExpectedNames, TokenError};
use super::{
    claims::{AccessClaims, Payload, SignedClaims, TokenHash},
    keys::{Key, KeySet},
};
use crate::{clock::Timestamp, ops::config::TokenArgs, status::ApiError};

/// Maximum length of a token. Longer ones are refused before they are decoded.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The `typ` of access tokens (RFC 9068, section 2.1), so that other kinds of JWT are refused.
const TOKEN_TYPE: &str = "at+jwt";

/// The only accepted header. Any other member (`crit`, `jwk`, `jku`, `x5u`, `zip`, `b64`) is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    /// A `Cow`, because a `kid` with escaped characters cannot be borrowed.
    #[serde(borrow)]
    kid: Cow<'a, str>,
    typ: &'a str,
}

/// Signs an access token.
///
/// # Errors
/// If there is no signing key, or the token would permit nothing.
pub fn sign(keys: &KeySet, args: &TokenArgs, claims: &AccessClaims) -> anyhow::Result<String> {
    anyhow::ensure!(claims.scopes.is_none_or(|scopes| !scopes.is_empty()), "a token must have at least one scope");
    let (key, signing) = keys.signing().context("the first key is a public key, which cannot sign")?;
    let mut header = jsonwebtoken::Header::new(key.algorithm);
    header.typ = Some(TOKEN_TYPE.to_owned());
    header.kid = Some(key.id.clone());
    Ok(jsonwebtoken::encode(&header, &Payload::new(claims, args), signing)?)
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid | TokenError::KeyUnknown | TokenError::NotYetValid(_) => {
                Self::new(Code::Unauthenticated, ErrorReason::TokenInvalid, "the access token is not valid")
            }
            TokenError::Expired => {
                Self::new(Code::Unauthenticated, ErrorReason::TokenExpired, "the access token has expired")
            }
        }
    }
}

/// Verifies the format, the signature and every claim of a token, in this order, without I/O. Does not check whether
/// the session was revoked.
///
/// # Errors
/// [`TokenError::Expired`] or [`TokenError::NotYetValid`] if the token is otherwise valid, [`TokenError::KeyUnknown`] if
/// its key is unknown, else [`TokenError::Invalid`].
pub fn verify<'a>(
    keys: &KeySet,
    expected: impl Into<ExpectedNames<'a>>,
    token: &str,
    now: Timestamp,
) -> Result<AccessClaims, TokenError> {
    verify_with_audience(keys, expected.into(), token, now).map(|(claims, _)| claims)
}

/// Like [`verify`], and returns the audience of the token, too.
///
/// # Errors
/// As [`verify`].
pub fn verify_with_audience<'a>(
    keys: &KeySet,
    expected: ExpectedNames<'a>,
    token: &str,
    now: Timestamp,
) -> Result<(AccessClaims, &'a str), TokenError> {
    let verified = verify_expired(keys, expected, token, now)?;
    if verified.0.has_expired(now) { Err(TokenError::Expired) } else { Ok(verified) }
}

/// Like [`verify_with_audience`], but accepts expired tokens, to identify their session.
///
/// # Errors
/// [`TokenError::Invalid`], [`TokenError::NotYetValid`] or [`TokenError::KeyUnknown`].
pub fn verify_expired<'a>(
    keys: &KeySet,
    expected: ExpectedNames<'a>,
    token: &str,
    now: Timestamp,
) -> Result<(AccessClaims, &'a str), TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Invalid);
    }
    let hash = TokenHash::new(token);
    if let Some(signed) = keys.verified.get(&hash) {
        let (claims, audience) = signed.check(expected, now)?;
        return Ok((claims.clone(), audience));
    }
    let signed = parse_signed(keys, token)?;
    let (claims, audience) = signed.check(expected, now)?;
    let claims = claims.clone();
    // Cached only after the check, so that the issuer and the audience of an entry are expected ones, which limits its size.
    keys.verified.insert(hash, Arc::new(signed));
    Ok((claims, audience))
}

/// Verifies the signature of a token and parses its claims.
fn parse_signed(keys: &KeySet, token: &str) -> Result<SignedClaims, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Invalid)?;
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Invalid)?;
    let key = find_key(keys, &header)?;
    if !key.verify(message, signature) {
        return Err(TokenError::Invalid);
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Invalid)?;
    parse_object::<Payload>(&payload).and_then(Payload::into_signed_claims).ok_or(TokenError::Invalid)
}

/// Returns the key of a token, if its `typ` is correct and its algorithm is that of the key.
fn find_key<'k>(keys: &'k KeySet, header: &[u8]) -> Result<&'k Key, TokenError> {
    let header: Header = parse_object(header).ok_or(TokenError::Invalid)?;
    let key = keys.by_id(&header.kid).ok_or(TokenError::KeyUnknown)?;
    let is_allowed = header.typ == TOKEN_TYPE && header.alg.parse() == Ok(key.algorithm);
    if is_allowed { Ok(key) } else { Err(TokenError::Invalid) }
}

/// Parses a JSON object. Serde alone would also accept an array of the values, and invalid UTF-8 in skipped values.
fn parse_object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    let text = std::str::from_utf8(json).ok().filter(|text| text.starts_with('{'))?;
    serde_json::from_str(text).ok()
}
