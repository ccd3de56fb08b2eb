//! What the services of this process share.

use std::sync::Arc;

use service_kit::{
    clock::{Clock, Timestamp},
    config::{OnOff, TokenArgs},
    db::Db,
    interceptor::Authenticator,
    key_source::KeySource,
    page::PageTokens,
    status::ApiError,
    token::{self, AccessClaims},
};
use taskey_proto::auth::v1::{TokenPair, audit_event::Kind};
use tonic::Request;
use uuid::Uuid;

use crate::{
    config::SessionArgs,
    error,
    feed::FeedHandle,
    hashing::{Comparison, Hashing},
    limits::{AddressLimits, RateLimitedAction},
    model::{
        audit::{Actor, Event},
        guess::Target,
        password::Password,
        refresh_token::{RefreshKey, RefreshToken},
        session::Session,
        user::User,
    },
    origin::{ClientInfo, ClientInfoResolver},
    store::{
        guesses::{self, End},
        revocations::{self, RevocationReason, RevokedSession, SessionSelector},
    },
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
    /// Whether rate limits count.
    pub rate_limits: OnOff,
    /// The tokens of pages of lists.
    pub page_tokens: PageTokens,
    /// How many code points a new password must have at least.
    pub password_min_length: usize,
    /// What each address has done lately.
    pub address_limits: AddressLimits,
    /// Who is believed when they say for whom they call.
    pub origins: ClientInfoResolver,
}

impl App {
    /// The tokens of a session that has just begun or been refreshed. What the access token grants is what the user
    /// may do now; it never outlives the session.
    ///
    /// # Errors
    /// INTERNAL if the key cannot sign.
    pub fn token_pair(&self, user: User, session: &Session, now: Timestamp) -> Result<TokenPair, ApiError> {
        let grant = AccessClaims {
            id: self.clock.new_id(),
            user_id: user.id,
            session_id: session.id,
            roles: user.roles(),
            issued_at: now,
            expires_at: (now + self.sessions.access_token_ttl).min(session.expires_at),
        };
        let keys = self.keys.current().ok_or_else(|| ApiError::internal("there is no key to sign with"))?;
        let access_token = token::sign(&keys, &self.tokens, &grant);
        let refresh_token = RefreshToken { session_id: session.id, generation: session.generation };
        Ok(TokenPair {
            access_token: access_token.map_err(ApiError::internal)?,
            refresh_token: self.refresh_key.issue(refresh_token),
            token_type: "Bearer".to_owned(),
            access_expire_time: Some(Timestamp::from_seconds(grant.expires_at.as_seconds()).into()),
            refresh_expire_time: Some(session.expires_at.into()),
            session_id: session.id.to_string(),
            user: Some(user.into()),
        })
    }

    /// Revokes sessions, has the feed announce them, and returns them.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn revoke(
        &self,
        selector: SessionSelector,
        reason: RevocationReason,
        event: Event,
    ) -> Result<Vec<RevokedSession>, ApiError> {
        let revoked = revocations::revoke(&self.db, self.clock.now(), selector, reason, event).await?;
        if !revoked.is_empty() {
            self.feed.wake();
        }
        Ok(revoked)
    }

    /// Lets somebody try a password, unless too many have been wrong lately.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub async fn admit_attempt(&self, target: &Target) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        let admitted = guesses::admit(&self.db, self.clock.now(), target.clone()).await?;
        admitted.map_err(error::too_many_guesses)
    }

    /// Notes how a guess has ended that was let in.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn record_attempt(&self, target: Target, end: End) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        Ok(guesses::settle(&self.db, self.clock.now(), target, end).await?)
    }

    /// Compares a password with a stored hash, as often as guessing is allowed; without a hash it costs the same and is
    /// never right. Whoever is told that it is right settles the guess.
    ///
    /// # Errors
    /// `RATE_LIMITED` or `OVERLOADED`.
    pub async fn compare(
        &self,
        target: &Target,
        password: Password,
        stored: Option<String>,
    ) -> Result<Comparison, ApiError> {
        self.admit_attempt(target).await?;
        match self.hashing.compare(password, stored).await {
            Ok(comparison) => Ok(comparison),
            Err(refusal) => {
                self.record_attempt(target.clone(), End::Unjudged).await?;
                Err(refusal)
            }
        }
    }

    /// Where a call comes from.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn origin<T: Sync>(&self, request: &Request<T>) -> Result<ClientInfo, ApiError> {
        Ok(self.origins.of(request, &self.db, &self.clock).await?)
    }

    /// Lets an address do something, unless it has done it too often lately.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn admit(&self, what: RateLimitedAction, origin: &ClientInfo) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        self.address_limits.check(what, origin).map_err(error::too_many_calls)
    }

    /// An event whose caller is known by nothing but its request.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn event<T: Sync>(
        &self,
        kind: Kind,
        actor: Actor,
        session_id: Option<Uuid>,
        request: &Request<T>,
    ) -> Result<Event, ApiError> {
        Ok(Event::new(&self.clock, kind, actor, session_id, self.origin(request).await?))
    }
}
