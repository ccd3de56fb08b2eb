//! `taskey.auth.v1.AuthService`: accounts and sessions begin and end here.

use std::sync::Arc;

use service_kit::{clock::Timestamp, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, LoginRequest, LogoutRequest, LogoutResponse, RefreshRequest, SignUpRequest, TokenPair,
    audit_event::Kind,
};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::request::{self, Login, SignUp};
use crate::{
    app::App,
    error,
    hashing::Comparison,
    limits::RateLimitedAction,
    model::{
        audit::{Actor, Event},
        guess::Target,
        refresh_token::RefreshToken,
        session::{Replay, Session},
    },
    origin::ClientInfo,
    store::{
        audit,
        guesses::End,
        revocations::{RevocationReason, SessionSelector},
        sessions::{self, NewSession},
        users::{self, NewUser},
    },
};

/// The service.
pub struct AuthService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for AuthService {
    async fn sign_up(&self, request: Request<SignUpRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.app.event(Kind::SignUp, Actor::Owner, None, &request).await?;
        let App { db, clock, hashing, password_min_length, .. } = &*self.app;
        let SignUp { email, password, display_name } = SignUp::parse(request.into_inner(), *password_min_length)?;
        self.app.admit(RateLimitedAction::SignUp, &event.origin)?;
        // Not decisive, but it saves the hash: of many who come at once, most find the address taken at their turn.
        let turn = hashing.turn().await?;
        if users::by_email(db, &email).await.map_err(ApiError::from)?.is_some() {
            return Err(error::email_taken().into());
        }
        let password_hash = hashing.hash(turn, password).await?;
        let user = NewUser { id: clock.new_id(), email, display_name, password_hash };
        let user = users::insert(db, clock.now(), user, event).await.map_err(ApiError::from)?;
        let user = user.ok_or_else(error::email_taken)?;
        tracing::info!(user_id = %user.id, "signed up");
        Ok(Response::new(user.into()))
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<TokenPair>, Status> {
        let origin = self.app.origin(&request).await?;
        let login = Login::parse(request.into_inner())?;
        self.app.admit(RateLimitedAction::Login, &origin)?;
        Ok(Response::new(self.begin_session(login, origin).await?))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<TokenPair>, Status> {
        let origin = self.app.origin(&request).await?;
        let token = request::refresh_token(request.into_inner().refresh_token)?.map(Zeroizing::new);
        let token = token.ok_or_else(request::no_refresh_token)?;
        self.app.admit(RateLimitedAction::Refresh, &origin)?;
        let token = self.app.refresh_key.open(&token).ok_or_else(error::refresh_token_invalid)?;
        Ok(Response::new(self.rotate(token, origin).await?))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let bearer = self.app.authenticator.session(request.metadata());
        let event = self.app.event(Kind::Logout, Actor::Owner, None, &request).await?;
        let LogoutRequest { refresh_token, wait_for_verifiers } = request.into_inner();
        let token = request::refresh_token(refresh_token)?.map(Zeroizing::new);
        let session_id = match token.as_ref().map(|token| self.app.refresh_key.open(token)) {
            Some(Some(token)) => Some(token.session_id),
            // A refresh token that belongs to no session is no error (RFC 7009, section 2.2), but it does not hide
            // the session that the access token names.
            Some(None) => bearer.ok(),
            None => Some(bearer?),
        };
        if let Some(session_id) = session_id {
            let event = Event { session_id: Some(session_id), ..event };
            self.app.revoke(SessionSelector::Session(session_id), RevocationReason::Requested, event).await?;
        }
        let App { db, feed, .. } = &*self.app;
        let confirmed = if wait_for_verifiers { feed.confirmed(db).await.map_err(ApiError::from)? } else { 0 };
        Ok(Response::new(LogoutResponse { acknowledged_verifiers: i32::try_from(confirmed).unwrap_or(i32::MAX) }))
    }
}

impl AuthService {
    async fn begin_session(&self, login: Login, origin: ClientInfo) -> Result<TokenPair, ApiError> {
        let App { db, clock, sessions: lives, .. } = &*self.app;
        let credentials = users::by_email(db, &login.email).await?;
        let has_account = credentials.is_some();
        // A disabled account is taken for none from here on: its hash might cost more or less than that of nobody.
        let credentials = credentials.filter(|found| !found.user.disabled);
        let (user, stored) = credentials.map(|found| (found.user, found.password_hash)).unzip();
        let target = Target::from(&login.email);
        let comparison = self.app.compare(&target, login.password, stored.clone()).await?;
        let event = |kind, actor, id| Event::new(clock, kind, actor, id, origin.clone());
        let user = user.filter(|_| comparison != Comparison::Different);
        let Some((user, mut hash)) = user.zip(stored) else {
            // Something is written for those who have no account, too, so that it takes as long.
            let failed = event(Kind::LoginFailed, Actor::Unknown, None);
            let audit = audit::failed_login(db, clock.now(), login.email, has_account, failed);
            // Side by side, so that they share a commit.
            // Neither is given up because the other has failed.
            let (settled, audited) = tokio::join!(self.app.record_attempt(target, End::Wrong), audit);
            settled?;
            audited?;
            return Err(error::credentials_invalid());
        };
        if let Comparison::SameAndRehashed(new) = comparison {
            users::rehash(db, user.id, hash, new.clone()).await?;
            hash = new;
        }
        let now = clock.now();
        let session = NewSession {
            id: clock.new_id(),
            user_id: user.id,
            label: login.label,
            user_agent: origin.user_agent.clone(),
            ip_address: origin.ip_address(),
            expires_at: now + lives.refresh_idle_ttl.min(lives.refresh_max_ttl),
            ends_at: now + lives.refresh_max_ttl,
        };
        let event = event(Kind::Login, Actor::Owner, Some(session.id));
        let begin = sessions::insert(db, now, session, hash, event);
        let (settled, begun) = tokio::join!(self.app.record_attempt(target, End::Right), begin);
        settled?;
        let (session, surplus) = begun?.ok_or_else(error::credentials_invalid)?;
        tracing::info!(user_id = %user.id, session_id = %session.id, surplus, "logged in");
        if surplus > 0 {
            self.app.feed.wake();
        }
        self.app.token_pair(user, &session, now)
    }

    async fn rotate(&self, token: RefreshToken, origin: ClientInfo) -> Result<TokenPair, ApiError> {
        let App { db, clock, sessions: lives, .. } = &*self.app;
        let now = clock.now();
        let rotated = sessions::rotate(db, now, token, now + lives.refresh_idle_ttl).await?;
        let session = if let Some(session) = rotated { session } else { self.same_child(token, now, origin).await? };
        // What the user may do is read anew; the account may have been disabled since the child was issued.
        let user = users::by_id(db, session.user_id).await?.filter(|user| !user.disabled);
        let user = user.ok_or_else(error::refresh_token_invalid)?;
        self.app.token_pair(user, &session, now)
    }

    /// Returns the session of a used token if it may be sent again to receive the same new token. A token that is
    /// considered stolen ends its session.
    async fn same_child(&self, token: RefreshToken, now: Timestamp, origin: ClientInfo) -> Result<Session, ApiError> {
        let session = sessions::by_id(&self.app.db, token.session_id).await?;
        let session = session.ok_or_else(error::refresh_token_invalid)?;
        match session.judge(token.generation, now, self.app.sessions.refresh_grace) {
            Replay::SameChild => Ok(session),
            Replay::Overtaken => Err(error::refresh_token_superseded()),
            Replay::KnownTheft => Err(error::refresh_token_reused()),
            Replay::Ended => Err(error::refresh_token_invalid()),
            Replay::Theft => {
                let event = Event::new(&self.app.clock, Kind::RefreshReused, Actor::Unknown, Some(session.id), origin);
                self.app.revoke(SessionSelector::Session(session.id), RevocationReason::TokenReused, event).await?;
                tracing::warn!(user_id = %session.user_id, session_id = %session.id, "a refresh token was reused");
                Err(error::refresh_token_reused())
            }
        }
    }
}
