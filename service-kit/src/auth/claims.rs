//! The claims of access tokens in the profile of RFC 9068, and a cache of verified claims.

use std::{fmt, iter, slice, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    actor::{self, Actor},
    authentication::{AuthMethods, Authentication},
    scope::Scopes,
};
use crate::{
    clock::{MAX_CLOCK_SKEW, Timestamp},
    id,
    ops::config::TokenArgs,
};

/// Maximum lifetime of access tokens.
pub const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Tolerated difference between the clocks of two machines.
pub const LEEWAY: Duration = MAX_CLOCK_SKEW;

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
    /// What the token permits: `scope`. `None` if it permits all that the roles do.
    pub scopes: Option<Scopes>,
    /// How and when the user has proved their identity: `amr` and `auth_time`. `None` for the tokens of programs. An exchanged
    /// token has those of the exchanged one.
    pub authentication: Option<Authentication>,
    /// When it was issued: `iat`.
    pub issued_at: Timestamp,
    /// When it expires: `exp`.
    pub expires_at: Timestamp,
    /// The services that act on behalf of the user: `act`, the current one first. Empty if the user acts.
    pub actors: Vec<Actor>,
}

impl AccessClaims {
    /// Returns the sessions with which the token ends: that of the user, and those of the services that act on behalf of the
    /// user.
    pub fn session_ids(&self) -> impl Iterator<Item = Uuid> {
        iter::once(self.session_id).chain(self.actors.iter().filter_map(|actor| actor.session_id))
    }

    /// Reports whether the token has expired, allowing for [`LEEWAY`].
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at + LEEWAY <= now
    }
}

/// The issuer of the tokens that are accepted, and their audiences. A token has one of these.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedNames<'a> {
    /// The claim `iss`.
    pub issuer: &'a str,
    /// The claim `aud`.
    pub audiences: &'a [String],
}

impl<'a> From<&'a TokenArgs> for ExpectedNames<'a> {
    fn from(args: &'a TokenArgs) -> Self {
        Self { issuer: &args.issuer, audiences: slice::from_ref(&args.audience) }
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not issued by this server. The cause is not distinguished.
    Invalid,
    /// Signed with an unknown key, which may be a new one that has not been received yet.
    KeyUnknown,
    /// Issued by this server, but in the future by this time. The clocks of the issuer and of this machine differ.
    NotYetValid(Duration),
    /// Valid, but expired.
    Expired,
}

/// The payload of a token. Serde refuses missing, mistyped and duplicated members.
#[derive(Deserialize, Serialize)]
pub(super) struct Payload {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    jti: String,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_non_null")]
    nbf: Option<i64>,
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_non_null")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_non_null")]
    amr: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_non_null")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_non_null")]
    act: Option<Map<String, Value>>,
}

/// Deserializes a claim that is present. Rejects `null`, which is not the same as an absent claim.
fn deserialize_non_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(claim: D) -> Result<Option<T>, D::Error> {
    T::deserialize(claim).map(Some)
}

impl Payload {
    /// Creates the payload of a new token.
    pub(super) fn new(claims: &AccessClaims, args: &TokenArgs) -> Self {
        Self {
            iss: args.issuer.clone(),
            aud: args.audience.clone(),
            sub: claims.user_id.to_string(),
            sid: claims.session_id.to_string(),
            jti: claims.id.to_string(),
            iat: claims.issued_at.as_seconds(),
            exp: claims.expires_at.as_seconds(),
            nbf: None,
            roles: claims.roles.clone(),
            scope: claims.scopes.map(|scopes| scopes.to_string()),
            amr: claims.authentication.map(|authentication| authentication.methods.names()),
            auth_time: claims.authentication.map(|authentication| authentication.time.as_seconds()),
            act: actor::to_act(&claims.actors),
        }
    }

    /// Parses the ids, the scopes and the actors, and checks the lifetime. The other checks depend on the time and on the
    /// verifier.
    pub(super) fn into_signed_claims(self) -> Option<SignedClaims> {
        let lifetime = self.exp.checked_sub(self.iat)?;
        if lifetime <= 0 || Duration::from_secs(lifetime.unsigned_abs()) > MAX_LIFETIME {
            return None;
        }
        let scopes = match self.scope {
            Some(scope) => Some(Scopes::from_claim(&scope)?),
            None => None,
        };
        let methods = AuthMethods::from_names(self.amr.iter().flatten().map(String::as_str));
        // No factor can have been proved after the token was issued.
        let authentication_time = self.auth_time.map(|time| Timestamp::from_seconds(time.min(self.iat)));
        let authentication = authentication_time.map(|time| Authentication { methods, time });
        let claims = AccessClaims {
            id: id::parse(&self.jti)?,
            user_id: id::parse(&self.sub)?,
            session_id: id::parse(&self.sid)?,
            roles: self.roles,
            scopes,
            authentication,
            issued_at: Timestamp::from_seconds(self.iat),
            expires_at: Timestamp::from_seconds(self.exp),
            actors: actor::from_act(self.act.as_ref())?,
        };
        Some(SignedClaims { claims, issuer: self.iss, audience: self.aud, not_before: self.nbf })
    }
}

/// The claims of a token whose signature and format are valid.
#[derive(Debug)]
pub(super) struct SignedClaims {
    claims: AccessClaims,
    issuer: String,
    audience: String,
    /// `nbf`, in seconds.
    not_before: Option<i64>,
}

impl SignedClaims {
    /// Returns the claims and the audience if the token has the expected issuer and an expected audience, and its `iat` and
    /// `nbf` have passed.
    ///
    /// # Errors
    /// [`TokenError::NotYetValid`] if only the times are wrong, else [`TokenError::Invalid`].
    pub(super) fn check<'a>(
        &self,
        expected: ExpectedNames<'a>,
        now: Timestamp,
    ) -> Result<(&AccessClaims, &'a str), TokenError> {
        let audience = expected.audiences.iter().find(|audience| **audience == self.audience);
        let audience = audience.filter(|_| self.issuer == expected.issuer).ok_or(TokenError::Invalid)?;
        let valid_from = self.claims.issued_at.as_seconds().max(self.not_before.unwrap_or(i64::MIN));
        if valid_from > (now + LEEWAY).as_seconds() {
            return Err(TokenError::NotYetValid(Timestamp::from_seconds(valid_from).since(now)));
        }
        Ok((&self.claims, audience))
    }
}

/// Maximum number of cached tokens, at about 400 bytes each.
const MAX_TOKENS: usize = 16_384;

/// The SHA-256 hash of a token. Hashes are looked up instead of tokens, so that the duration of a comparison reveals
/// nothing about a token, and no token is kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenHash {
    pub(super) fn new(token: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// The claims of tokens whose signature was valid. Clients send the same token many times: a lookup takes
/// 0.7 µs, the first verification 3 µs with a shared key and 44 µs with Ed25519 (`cargo bench -p service-kit`).
pub(super) struct VerifiedTokens(Cache<TokenHash, Arc<SignedClaims>>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Cache::new(MAX_TOKENS))
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<SignedClaims>> {
        self.0.get(hash)
    }

    pub(super) fn insert(&self, hash: TokenHash, claims: Arc<SignedClaims>) {
        self.0.insert(hash, claims);
    }
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedTokens").field("len", &self.0.len()).finish()
    }
}
