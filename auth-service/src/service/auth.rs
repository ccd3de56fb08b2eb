//! `taskey.auth.v1.AuthService`: sign-up, login, refresh and logout.

use std::sync::Arc;

use http::HeaderMap;
use service_kit::{auth::interceptor::bearer, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, BeginPasskeyLoginRequest, BeginPasskeyLoginResponse, CompleteLoginRequest, ConfirmEmailChangeRequest,
    ConfirmEmailChangeResponse, FinishPasskeyLoginRequest, LoginRequest, LogoutRequest, LogoutResponse, RefreshRequest,
    RequestPasswordResetRequest, RequestPasswordResetResponse, ResetPasswordRequest, ResetPasswordResponse,
    SignUpRequest, TokenPair, UndoEmailChangeRequest, UndoEmailChangeResponse, VerifyEmailRequest, VerifyEmailResponse,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    factor_request::{completion, passkey_login},
    request::{self, SignUp},
};
use crate::{
    app::App,
    error,
    login::address_limits::RateLimitedAction,
    model::{
        audit::{Actor, Event, Kind},
        login_challenge::LoginChallenge,
        mail::Template,
        user::User,
    },
    store::{
        email_changes,
        revocations::{RevocationReason, SessionSelector},
        users::{self, NewUser},
    },
};

/// The implementation of the service.
pub struct AuthService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for AuthService {
    async fn sign_up(&self, request: Request<SignUpRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.app.clients.event(Kind::SignUp, Actor::Owner, None, &request).await?;
        let App { db, clock, passwords, sessions, mailer, password_min_length, .. } = &*self.app;
        let SignUp { email, password, display_name } = SignUp::parse(request.into_inner(), *password_min_length)?;
        self.app.address_limits.check(RateLimitedAction::SignUp, &event.client)?;
        // Avoids most hashes of concurrent sign-ups with the same address: when they leave the queue, one of them has
        // usually created the account. The unique constraint decides about the others.
        let permit = passwords.hashing.acquire(event.client.rate_limit_key()).await?;
        let is_taken = email_changes::is_taken(db, clock.now(), email.as_str()).await.map_err(ApiError::from)?;
        if is_taken && !sessions.requires_verified_email {
            return Err(error::email_taken().into());
        }
        let password_hash = passwords.hashing.hash(permit, password).await?;
        let user = NewUser { id: clock.new_id(), email, display_name, password_hash };
        let user = self.create(user, event).await?;
        mailer.wake();
        tracing::info!(user_id = %user.id, "signed up");
        Ok(Response::new(user.into()))
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<TokenPair>, Status> {
        let client = self.app.clients.resolve(&request).await?;
        let login = request::login(request.into_inner())?;
        self.app.address_limits.check(RateLimitedAction::Login, &client)?;
        Ok(Response::new(self.app.sessions.begin(login, client).await?))
    }

    async fn complete_login(&self, request: Request<CompleteLoginRequest>) -> Result<Response<TokenPair>, Status> {
        let App { clock, clients, issuer, address_limits, sessions, .. } = &*self.app;
        let client = clients.resolve(&request).await?;
        let open = |token: &str| LoginChallenge::open(&issuer.refresh_keys.current(), token, clock.now());
        let (challenge, factor) = completion(request.into_inner(), open)?;
        address_limits.check(RateLimitedAction::Login, &client)?;
        Ok(Response::new(sessions.complete(challenge, factor, client).await?))
    }

    async fn begin_passkey_login(
        &self,
        _: Request<BeginPasskeyLoginRequest>,
    ) -> Result<Response<BeginPasskeyLoginResponse>, Status> {
        Ok(Response::new(BeginPasskeyLoginResponse { options: self.app.sessions.passkeys.login_options()? }))
    }

    async fn finish_passkey_login(
        &self,
        request: Request<FinishPasskeyLoginRequest>,
    ) -> Result<Response<TokenPair>, Status> {
        let client = self.app.clients.resolve(&request).await?;
        let (response, label) = passkey_login(request.into_inner())?;
        self.app.address_limits.check(RateLimitedAction::Login, &client)?;
        Ok(Response::new(self.app.sessions.begin_with_passkey(&response, label, client).await?))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<TokenPair>, Status> {
        let client = self.app.clients.resolve(&request).await?;
        let token = request::refresh_token(request.into_inner().refresh_token)?.map(Zeroizing::new);
        let token = token.ok_or_else(request::missing_refresh_token)?;
        self.app.address_limits.check(RateLimitedAction::Refresh, &client)?;
        let token = self.app.issuer.refresh_keys.open(&token).ok_or_else(error::refresh_token_invalid)?;
        Ok(Response::new(self.app.sessions.refresh(token, client).await?.0))
    }

    async fn verify_email(
        &self,
        request: Request<VerifyEmailRequest>,
    ) -> Result<Response<VerifyEmailResponse>, Status> {
        let event = self.app.clients.event(Kind::EmailVerified, Actor::Owner, None, &request).await?;
        let VerifyEmailRequest { token, email, code } = request.into_inner();
        let proof = request::proof(token, &email, &code)?;
        self.app.address_limits.check(RateLimitedAction::Login, &event.client)?;
        self.app.actions.verify_email(proof, event).await?;
        Ok(Response::new(VerifyEmailResponse {}))
    }

    async fn confirm_email_change(
        &self,
        request: Request<ConfirmEmailChangeRequest>,
    ) -> Result<Response<ConfirmEmailChangeResponse>, Status> {
        let event = self.app.clients.event(Kind::EmailChanged, Actor::Owner, None, &request).await?;
        let ConfirmEmailChangeRequest { token, email, code } = request.into_inner();
        let proof = request::proof(token, &email, &code)?;
        self.app.address_limits.check(RateLimitedAction::Login, &event.client)?;
        self.app.actions.confirm_email_change(proof, event).await?;
        Ok(Response::new(ConfirmEmailChangeResponse {}))
    }

    async fn undo_email_change(
        &self,
        request: Request<UndoEmailChangeRequest>,
    ) -> Result<Response<UndoEmailChangeResponse>, Status> {
        let event = self.app.clients.event(Kind::EmailChangeUndone, Actor::Owner, None, &request).await?;
        let proof = request::action_token(request.into_inner().token)?;
        self.app.address_limits.check(RateLimitedAction::Login, &event.client)?;
        self.app.actions.undo_email_change(proof, event).await?;
        Ok(Response::new(UndoEmailChangeResponse {}))
    }

    async fn request_password_reset(
        &self,
        request: Request<RequestPasswordResetRequest>,
    ) -> Result<Response<RequestPasswordResetResponse>, Status> {
        let client = self.app.clients.resolve(&request).await?;
        let email = request::email(&request.get_ref().email)?;
        self.app.address_limits.check(RateLimitedAction::Login, &client)?;
        self.app.actions.request_password_reset(email, &client).await?;
        Ok(Response::new(RequestPasswordResetResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        let event = self.app.clients.event(Kind::PasswordReset, Actor::Owner, None, &request).await?;
        let ResetPasswordRequest { token, email, code, new_password } = request.into_inner();
        let new_password = Zeroizing::new(new_password);
        let proof = request::proof(token, &email, &code)?;
        self.app.address_limits.check(RateLimitedAction::Login, &event.client)?;
        self.app.actions.reset_password(proof, new_password, event).await?;
        Ok(Response::new(ResetPasswordResponse {}))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let access_token_session = self.access_token_session(request.metadata().as_ref());
        let event = self.app.clients.event(Kind::Logout, Actor::Owner, None, &request).await?;
        let LogoutRequest { refresh_token, wait_for_verifiers } = request.into_inner();
        let token = request::refresh_token(refresh_token)?.map(Zeroizing::new);
        let session_id = match token.as_ref().map(|token| self.app.issuer.refresh_keys.open(token)) {
            Some(Some(token)) => Some(token.session_id),
            // An invalid refresh token is not an error (RFC 7009, section 2.2). The session of the access token is
            // revoked nevertheless.
            Some(None) => access_token_session.ok(),
            None => Some(access_token_session?),
        };
        if let Some(session_id) = session_id {
            self.app.call_limit.check(session_id)?;
            let event = Event { session_id: Some(session_id), ..event };
            self.app.sessions.revoke(SessionSelector::Session(session_id), RevocationReason::Requested, event).await?;
        }
        let App { db, feed, .. } = &*self.app;
        let acknowledged = if wait_for_verifiers && session_id.is_some() {
            feed.wait_for_acknowledgements(db).await.map_err(ApiError::from)?
        } else {
            0
        };
        Ok(Response::new(LogoutResponse { acknowledged_verifiers: i32::try_from(acknowledged).unwrap_or(i32::MAX) }))
    }
}

impl AuthService {
    /// Returns the session that the access token of a call can end, even if the token has expired or the session was revoked. A
    /// token with an actor belongs to a service, which must not end the session of the user.
    fn access_token_session(&self, headers: &HeaderMap) -> Result<Uuid, ApiError> {
        let claims = self.app.authenticator.verify_expired(bearer(headers)?)?;
        if claims.actors.is_empty() { Ok(claims.session_id) } else { Err(error::token_belongs_to_service()) }
    }

    /// Creates an account, and stores the mail that verifies its address. If the address has an account already, and the
    /// server requires verified addresses, stores a mail to its owner instead, and returns an account that does not exist.
    async fn create(&self, user: NewUser, event: Event) -> Result<User, ApiError> {
        let App { db, clock, sessions, mailer, .. } = &*self.app;
        let now = clock.now();
        let account = user.credentials(now);
        let mail = mailer.action(Template::VerifyEmail, &account, &event.client);
        if sessions.requires_verified_email {
            let notice = mailer.notice(Template::AccountExists, &account.user, &event.client);
            let created = users::insert_or_notify(db, now, user, event, [mail, notice]).await?;
            return Ok(created.unwrap_or(account.user));
        }
        users::insert(db, now, user, (event, mail)).await?.ok_or_else(error::email_taken)
    }
}
