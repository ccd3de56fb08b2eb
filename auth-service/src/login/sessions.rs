//! Refreshes and revokes sessions.

use std::sync::Arc;

use service_kit::{
    auth::scope::Scopes,
    clock::{Clock, Timestamp},
    db::Db,
    status::ApiError,
};
use taskey_proto::auth::v1::TokenPair;

use super::{attempts::PasswordAttempts, passkeys::Passkeys, token_issuer::TokenIssuer};
use crate::{
    config::SessionArgs,
    error,
    feed::FeedHandle,
    mail::Mailer,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        mail::{NewMail, Template},
        refresh_token::RefreshToken,
        session::{Replay, Session},
    },
    store::{
        revocations::{self, RevocationReason, RevokedSession, SessionSelector},
        sessions, users,
    },
};

/// The tokens of a session, and the scopes of the access token, or `None` if it permits all that the roles of the user do.
pub type UserTokens = (TokenPair, Option<Scopes>);

/// The sessions of all users.
pub struct Sessions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) feed: FeedHandle,
    pub(crate) passwords: Arc<PasswordAttempts>,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) passkeys: Arc<Passkeys>,
    pub(crate) args: SessionArgs,
    pub(crate) mailer: Arc<Mailer>,
    /// Whether accounts whose address is not verified cannot log in.
    pub(crate) requires_verified_email: bool,
}

impl Sessions {
    /// Exchanges a refresh token for new tokens of its session.
    ///
    /// # Errors
    /// REFRESH_TOKEN_INVALID, REFRESH_TOKEN_SUPERSEDED or REFRESH_TOKEN_REUSED.
    pub async fn refresh(&self, token: RefreshToken, client: ClientInfo) -> Result<UserTokens, ApiError> {
        let Self { db, clock, args, .. } = self;
        let (now, address) = (clock.now(), client.address);
        let rotated = sessions::rotate(db, now, token, now + args.refresh_idle_ttl).await?;
        let session = if let Some(session) = rotated { session } else { self.on_replay(token, now, client).await? };
        // The roles may have changed, and the account may have been disabled.
        let user = users::by_id(db, session.user_id).await?.filter(|user| !user.disabled);
        let user = user.ok_or_else(error::refresh_token_invalid)?;
        self.passwords.record_use(&user.email, address).await;
        Ok((self.issuer.token_pair(user, &session, now)?, session.scopes))
    }

    /// Handles a token that could not be rotated. Returns its session if the client may receive the same successor
    /// again. Revokes the session if the token may have been stolen.
    async fn on_replay(&self, token: RefreshToken, now: Timestamp, client: ClientInfo) -> Result<Session, ApiError> {
        let session = sessions::by_id(&self.db, token.session_id).await?;
        let session = session.ok_or_else(error::refresh_token_invalid)?;
        match session.classify_replay(token.generation, now, self.args.refresh_grace) {
            Replay::SameSuccessor => Ok(session),
            Replay::Superseded => Err(error::refresh_token_superseded()),
            Replay::KnownTheft => Err(error::refresh_token_reused()),
            Replay::Ended => Err(error::refresh_token_invalid()),
            Replay::Theft => {
                let user = users::by_id(&self.db, session.user_id).await?;
                let notice = user.and_then(|user| self.mailer.notice(Template::RefreshReused, &user, &client));
                let event = Event::new(&self.clock, Kind::RefreshReused, Actor::Unknown, Some(session.id), client);
                let selector = SessionSelector::Session(session.id);
                self.revoke_with(selector, RevocationReason::TokenReused, (event, notice)).await?;
                self.mailer.wake();
                tracing::warn!(user_id = %session.user_id, session_id = %session.id, "a refresh token was reused");
                Err(error::refresh_token_reused())
            }
        }
    }

    /// Revokes sessions, notifies the feed, and returns the revoked sessions.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn revoke(
        &self,
        selector: SessionSelector,
        reason: RevocationReason,
        event: Event,
    ) -> Result<Vec<RevokedSession>, ApiError> {
        self.revoke_with(selector, reason, (event, None)).await
    }

    async fn revoke_with(
        &self,
        selector: SessionSelector,
        reason: RevocationReason,
        records: (Event, Option<NewMail>),
    ) -> Result<Vec<RevokedSession>, ApiError> {
        let revoked = revocations::revoke(&self.db, self.clock.now(), selector, reason, records).await?;
        self.feed.wake();
        Ok(revoked)
    }
}
