//! Issues access tokens and refresh tokens.

use std::{sync::Arc, time::Duration};

use service_kit::{
    auth::{authentication::Authentication, claims::AccessClaims, key_source::KeySource, scope::Scope, token},
    clock::{Clock, Timestamp},
    ops::config::TokenArgs,
    status::ApiError,
};
use taskey_proto::auth::v1::{ReauthenticateResponse, TokenPair};

use crate::{
    model::{refresh_token::RefreshToken, session::Session, user::User},
    refresh_secrets::RefreshKeySource,
};

/// The type of access tokens (RFC 6750).
const TOKEN_TYPE: &str = "Bearer";

/// Issues the tokens of sessions.
pub struct TokenIssuer {
    pub(crate) clock: Clock,
    /// The signing keys of access tokens.
    pub(crate) keys: Arc<KeySource>,
    /// The `iss` and `aud` claims of access tokens.
    pub(crate) token_args: TokenArgs,
    pub(crate) access_token_ttl: Duration,
    /// The keys of refresh tokens.
    pub(crate) refresh_keys: Arc<RefreshKeySource>,
}

impl TokenIssuer {
    /// Signs an access token for this audience.
    ///
    /// # Errors
    /// INTERNAL if there is no signing key.
    pub fn sign(&self, claims: &AccessClaims, audience: &str) -> Result<String, ApiError> {
        let keys = self.keys.current().ok_or_else(|| ApiError::internal("there is no signing key"))?;
        let token_args = TokenArgs { issuer: self.token_args.issuer.clone(), audience: audience.to_owned() };
        token::sign(&keys, &token_args, claims).map_err(ApiError::internal)
    }

    /// Issues the tokens of a session that was just started or refreshed. The access token contains the current roles
    /// of the user, and expires no later than the session. The pair contains the account if the session can read it.
    ///
    /// # Errors
    /// INTERNAL if there is no signing key.
    pub fn token_pair(&self, user: User, session: &Session, now: Timestamp) -> Result<TokenPair, ApiError> {
        let (access_token, access_expires_at) = self.access_token(&user, session, now)?;
        let can_read_account = session.scopes.is_none_or(|scopes| scopes.contains(Scope::AccountRead));
        let refresh_token = RefreshToken { session_id: session.id, generation: session.generation };
        Ok(TokenPair {
            access_token,
            refresh_token: self.refresh_keys.issue(refresh_token),
            token_type: TOKEN_TYPE.to_owned(),
            access_expire_time: Some(access_expires_at.into()),
            refresh_expire_time: Some(session.expires_at.into()),
            session_id: session.id.to_string(),
            user: can_read_account.then(|| user.into()),
            access_lifetime: Some(lifetime(access_expires_at, now)),
            refresh_lifetime: Some(lifetime(session.expires_at, now)),
            challenge: None,
        })
    }

    /// Issues an access token of a session whose user has proved the identity again.
    ///
    /// # Errors
    /// As [`token_pair`](Self::token_pair).
    pub fn renewed_access_token(
        &self,
        user: &User,
        session: &Session,
        now: Timestamp,
    ) -> Result<ReauthenticateResponse, ApiError> {
        let (access_token, expires_at) = self.access_token(user, session, now)?;
        Ok(ReauthenticateResponse {
            access_token,
            token_type: TOKEN_TYPE.to_owned(),
            access_expire_time: Some(expires_at.into()),
            access_lifetime: Some(lifetime(expires_at, now)),
        })
    }

    /// Issues an access token, and returns when it expires.
    fn access_token(&self, user: &User, session: &Session, now: Timestamp) -> Result<(String, Timestamp), ApiError> {
        // The clock of the replica that has authenticated the user may be ahead.
        let Authentication { methods, time } = session.authentication;
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: user.id,
            session_id: session.id,
            roles: user.roles(),
            scopes: session.scopes,
            authentication: Some(Authentication { methods, time: time.min(now) }),
            issued_at: now,
            expires_at: (now + self.access_token_ttl).min(session.expires_at),
            actors: Vec::new(),
        };
        let access_token = self.sign(&claims, &self.token_args.audience)?;
        // The claim `exp` has whole seconds.
        Ok((access_token, Timestamp::from_seconds(claims.expires_at.as_seconds())))
    }
}

fn lifetime(expires_at: Timestamp, now: Timestamp) -> prost_types::Duration {
    let seconds = expires_at.since(now).as_secs();
    prost_types::Duration { seconds: seconds.try_into().unwrap_or(i64::MAX), nanos: 0 }
}
