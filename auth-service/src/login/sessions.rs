//! Starts, refreshes and revokes sessions.

use std::sync::Arc;

use service_kit::{
    clock::{Clock, Timestamp},
    db::Db,
    status::ApiError,
};
use taskey_proto::auth::v1::TokenPair;

use super::{attempts::PasswordAttempts, hasher::Comparison, token_issuer::TokenIssuer};
use crate::{
    config::SessionArgs,
    error,
    feed::FeedHandle,
    mail::Mailer,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        email::Email,
        login_throttle::lock_duration,
        mail::{NewMail, Template},
        password::Password,
        refresh_token::RefreshToken,
        session::{Replay, Session},
        user::Credentials,
    },
    store::{
        audit,
        login_attempts::Attempt,
        mails,
        revocations::{self, RevocationReason, RevokedSession, SessionSelector},
        sessions::{self, NewSession, NewSessionOutcome},
        users,
    },
};

/// A validated login request.
pub struct Login {
    pub(crate) email: Email,
    pub(crate) password: Password,
    pub(crate) label: String,
}

/// The sessions of all users.
pub struct Sessions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) feed: FeedHandle,
    pub(crate) passwords: Arc<PasswordAttempts>,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) args: SessionArgs,
    pub(crate) mailer: Arc<Mailer>,
    /// Whether accounts whose address is not verified cannot log in.
    pub(crate) requires_verified_email: bool,
}

impl Sessions {
    /// Checks the password and starts a session.
    ///
    /// # Errors
    /// CREDENTIALS_INVALID, RATE_LIMITED, or OVERLOADED.
    pub async fn begin(&self, login: Login, client: ClientInfo) -> Result<TokenPair, ApiError> {
        let Self { db, clock, args, .. } = self;
        let credentials = users::credentials_by_email(db, &login.email).await?;
        let has_account = credentials.is_some();
        // From here on, a disabled account is treated like an unknown one. Its hash may have another cost than that for
        // unknown accounts, so the response time would reveal it.
        let credentials = credentials.filter(|found| !found.user.disabled);
        let stored_hash = credentials.as_ref().map(|found| found.password_hash.clone());
        let compared = self.passwords.compare(login.email.as_str(), &client, login.password, stored_hash);
        let (comparison, attempt) = compared.await?;
        let event = |kind, actor, id| Event::new(clock, kind, actor, id, client.clone());
        let Some(credentials) = credentials.filter(|_| comparison != Comparison::Different) else {
            // Failed logins of unknown accounts are stored, too. Otherwise the response time would reveal which exist.
            let failed = event(Kind::LoginFailed, Actor::Unknown, None);
            let audit = audit::failed_login(db, clock.now(), login.email, has_account, failed);
            // The two writes run concurrently, to share a commit. `join!` completes both even if one fails.
            let (recorded, audited) = tokio::join!(self.passwords.record_failure(&attempt), audit);
            recorded?;
            audited?;
            return Err(error::credentials_invalid());
        };
        if self.requires_verified_email && !credentials.user.email_verified {
            self.passwords.record_success(&attempt).await?;
            return self.refuse_unverified(&credentials, &client).await;
        }
        let Credentials { user, password_hash, password_version, .. } = credentials;
        let now = clock.now();
        let is_known = attempt.attempt.as_ref().is_none_or(Attempt::is_from_known_network);
        let notice = if is_known { None } else { self.mailer.notice(Template::NewDevice, &user, &client) };
        let session = NewSession {
            id: clock.new_id(),
            user_id: user.id,
            label: login.label,
            user_agent: client.user_agent.clone(),
            ip_address: client.ip_address(),
            expires_at: now + args.refresh_idle_ttl.min(args.refresh_max_ttl),
            ends_at: now + args.refresh_max_ttl,
            password_version,
            attempt: attempt.attempt.clone(),
            notice,
        };
        let event = event(Kind::Login, Actor::Owner, Some(session.id));
        let insert = sessions::insert(db, now, session, event);
        let rehash = self.passwords.rehash(user.id, password_hash, comparison);
        let (inserted, ()) = tokio::join!(insert, rehash);
        let (session, surplus) = match inserted? {
            NewSessionOutcome::Created(session, surplus) => (session, surplus),
            NewSessionOutcome::AccountChanged => return Err(error::credentials_invalid()),
            NewSessionOutcome::Throttled => return Err(error::too_many_wrong_passwords(lock_duration(now))),
        };
        self.mailer.wake();
        tracing::info!(user_id = %user.id, session_id = %session.id, surplus, "logged in");
        if surplus > 0 {
            // The oldest sessions were revoked.
            self.feed.wake();
        }
        self.issuer.token_pair(user, &session, now)
    }

    /// Exchanges a refresh token for new tokens of its session.
    ///
    /// # Errors
    /// REFRESH_TOKEN_INVALID, REFRESH_TOKEN_SUPERSEDED or REFRESH_TOKEN_REUSED.
    pub async fn refresh(&self, token: RefreshToken, client: ClientInfo) -> Result<TokenPair, ApiError> {
        let Self { db, clock, args, .. } = self;
        let (now, address) = (clock.now(), client.address);
        let rotated = sessions::rotate(db, now, token, now + args.refresh_idle_ttl).await?;
        let session = if let Some(session) = rotated { session } else { self.on_replay(token, now, client).await? };
        // The roles may have changed, and the account may have been disabled.
        let user = users::by_id(db, session.user_id).await?.filter(|user| !user.disabled);
        let user = user.ok_or_else(error::refresh_token_invalid)?;
        self.passwords.record_use(&user.email, address).await;
        self.issuer.token_pair(user, &session, now)
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

    /// Sends a mail with which the address of an account can be verified, and returns the error.
    async fn refuse_unverified(&self, account: &Credentials, client: &ClientInfo) -> Result<TokenPair, ApiError> {
        if let Some(mail) = self.mailer.action(Template::VerifyEmail, account, client) {
            mails::insert(&self.db, self.clock.now(), mail).await?;
            self.mailer.wake();
        }
        Err(error::email_unverified())
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
