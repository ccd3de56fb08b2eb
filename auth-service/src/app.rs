//! What the services of this process share.

use std::sync::Arc;

use service_kit::{
    clock::{Clock, Timestamp},
    config::TokenArgs,
    db::Db,
    interceptor::Authenticator,
    key_source::KeySource,
    secret_file,
    status::Refusal,
    token::{self, Grant},
};
use taskey_proto::auth::v1::TokenPair;

use crate::{
    config::SessionArgs,
    feed::FeedHandle,
    hashing::Hashing,
    model::{
        refresh_token::{RefreshKey, RefreshToken},
        session::Session,
        user::User,
    },
    store::revocations::{self, Which, Why},
};

/// What the services of this process share.
pub struct App {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Password hashes.
    pub hashing: Hashing,
    /// The keys of access tokens.
    pub keys: Arc<KeySource>,
    /// What access tokens say of who made them and for whom.
    pub tokens: TokenArgs,
    /// The key of refresh tokens.
    pub refresh_key: RefreshKey,
    /// How long sessions live.
    pub sessions: SessionArgs,
    /// The feed of revocations.
    pub feed: FeedHandle,
    /// Who calls?
    pub authenticator: Authenticator,
    /// What a gateway must show to be believed.
    pub gateway_secret: Option<secret_file::Key>,
}

impl App {
    /// The tokens of a session that has just begun or been refreshed. What the access token grants is what the user
    /// may do now; it never outlives the session.
    ///
    /// # Errors
    /// INTERNAL if the key cannot sign.
    pub fn token_pair(&self, user: User, session: &Session, now: Timestamp) -> Result<TokenPair, Refusal> {
        let grant = Grant {
            id: self.clock.new_id(),
            user_id: user.id,
            session_id: session.id,
            roles: user.roles(),
            issued_at: now,
            expires_at: (now + self.sessions.access_token_ttl).min(session.expires_at),
        };
        let keys = self.keys.current().ok_or_else(|| Refusal::internal("there is no key to sign with"))?;
        let access_token = token::sign(&keys, &self.tokens, &grant);
        let refresh_token = RefreshToken { session_id: session.id, generation: session.generation };
        Ok(TokenPair {
            access_token: access_token.map_err(Refusal::internal)?,
            refresh_token: self.refresh_key.issue(refresh_token),
            token_type: "Bearer".to_owned(),
            access_expire_time: Some(Timestamp::from_seconds(grant.expires_at.as_seconds()).into()),
            refresh_expire_time: Some(session.expires_at.into()),
            session_id: session.id.to_string(),
            user: Some(user.into()),
        })
    }

    /// Ends sessions, and answers when each would have ended. Whatever ends one comes through here: logout, the
    /// user's list of sessions, a reused token.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn revoke(&self, which: Which, why: Why) -> Result<Vec<Timestamp>, Refusal> {
        let revoked = revocations::revoke(&self.db, self.clock.now(), which, why).await?;
        if !revoked.is_empty() {
            self.feed.wake();
        }
        Ok(revoked)
    }
}
