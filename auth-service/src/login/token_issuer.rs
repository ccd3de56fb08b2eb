//! Issues access tokens and refresh tokens.

use std::{sync::Arc, time::Duration};

use service_kit::{
    auth::{claims::AccessClaims, key_source::KeySource, token},
    clock::{Clock, Timestamp},
    ops::config::TokenArgs,
    status::ApiError,
};
use taskey_proto::auth::v1::TokenPair;

use crate::{
    model::{refresh_token::RefreshToken, session::Session, user::User},
    refresh_secrets::RefreshKeySource,
};

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
    /// Issues the tokens of a session that was just started or refreshed. The access token contains the current roles
    /// of the user, and expires no later than the session.
    ///
    /// # Errors
    /// INTERNAL if there is no signing key.
    pub fn token_pair(&self, user: User, session: &Session, now: Timestamp) -> Result<TokenPair, ApiError> {
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: user.id,
            session_id: session.id,
            roles: user.roles(),
            scopes: None,
            issued_at: now,
            expires_at: (now + self.access_token_ttl).min(session.expires_at),
        };
        let keys = self.keys.current().ok_or_else(|| ApiError::internal("there is no signing key"))?;
        let access_token = token::sign(&keys, &self.token_args, &claims).map_err(ApiError::internal)?;
        let refresh_token = RefreshToken { session_id: session.id, generation: session.generation };
        // The claim `exp` has whole seconds.
        let access_expires_at = Timestamp::from_seconds(claims.expires_at.as_seconds());
        let lifetime = |expires_at: Timestamp| {
            let seconds = expires_at.since(now).as_secs();
            prost_types::Duration { seconds: seconds.try_into().unwrap_or(i64::MAX), nanos: 0 }
        };
        Ok(TokenPair {
            access_token,
            refresh_token: self.refresh_keys.issue(refresh_token),
            token_type: "Bearer".to_owned(),
            access_expire_time: Some(access_expires_at.into()),
            refresh_expire_time: Some(session.expires_at.into()),
            session_id: session.id.to_string(),
            user: Some(user.into()),
            access_lifetime: Some(lifetime(access_expires_at)),
            refresh_lifetime: Some(lifetime(session.expires_at)),
        })
    }
}
