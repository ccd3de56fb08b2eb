//! `taskey.auth.v1.AccountService`: the caller's own account and sessions.

use std::sync::Arc;

use service_kit::{auth::interceptor::Caller, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, BeginPasskeyReauthenticationRequest, BeginPasskeyReauthenticationResponse, ChangeEmailRequest,
    ChangeEmailResponse, ChangePasswordRequest, ChangePasswordResponse, DeleteMeRequest, DeleteMeResponse,
    ExportMeRequest, ExportMeResponse, GetMeRequest, ListMySecurityEventsRequest, ListMySecurityEventsResponse,
    ListSessionsRequest, ListSessionsResponse, ReauthenticateRequest, ReauthenticateResponse,
    RequestEmailVerificationRequest, RequestEmailVerificationResponse, RevokeAllSessionsRequest,
    RevokeAllSessionsResponse, RevokeOtherSessionsRequest, RevokeOtherSessionsResponse, RevokeSessionRequest,
    RevokeSessionResponse, UpdateMeRequest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    export,
    factor_request::{IdentityProof, identity_proof},
    request,
};
use crate::{
    app::App,
    caller::ActiveCaller,
    error,
    login::{address_limits::RateLimitedAction, hasher::Comparison},
    model::{
        audit::{Actor, Event, Kind},
        mail::Template,
        password::Password,
        user::{Credentials, User},
    },
    response,
    store::{
        accounts,
        audit::{self, Selection},
        revocations::{RevocationReason, SessionSelector},
        sessions, users,
    },
};

/// The arguments to which the page tokens of `ListMySecurityEvents` are bound.
const OWN_EVENTS_ARGUMENTS: &[u8] = b"own events";

/// The implementation of the service.
pub struct AccountService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::account_service_server::AccountService for AccountService {
    async fn get_me(&self, request: Request<GetMeRequest>) -> Result<Response<pb::User>, Status> {
        Ok(Response::new(self.app.caller(&request).await?.user.into()))
    }

    async fn update_me(&self, request: Request<UpdateMeRequest>) -> Result<Response<pb::User>, Status> {
        let App { db, clock, .. } = &*self.app;
        let caller = self.app.caller(&request).await?;
        let (metadata, _, mut request) = request.into_parts();
        let repeated = request::split_off_repeated(&metadata, &mut request);
        let name = request::new_display_name(request)?;
        repeated.check(&pb::User::from(caller.user.clone()))?;
        let user = match name {
            Some(name) => users::rename(db, clock.now(), caller.user.id, name).await.map_err(ApiError::from)?,
            None => Some(caller.user),
        };
        Ok(Response::new(user.ok_or_else(error::user_not_found)?.into()))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let ActiveCaller { user, session_id, .. } = self.app.unlimited_caller(&request).await?;
        let session_id = Some(session_id);
        let event = self.app.clients.event(Kind::PasswordChanged, Actor::Owner, session_id, &request).await?;
        let ChangePasswordRequest { current_password, new_password } = request.into_inner();
        let current = request::current_password(current_password)?;
        let verified_version = self.verify_current_password(&user, current, &event).await?;
        let new = request::new_password(new_password, &user, self.app.password_min_length)?;
        let App { db, clock, feed, passwords, mailer, .. } = &*self.app;
        let permit = passwords.hashing.acquire(event.client.rate_limit_key()).await?;
        let new = passwords.hashing.hash(permit, new).await?;
        let records = (event.clone(), mailer.notice(Template::PasswordChanged, &user, &event.client));
        let changed =
            accounts::change_password(db, clock.now(), user.id, verified_version, new, session_id, records).await;
        feed.wake();
        mailer.wake();
        // If the password was changed concurrently, the verified one is no longer current.
        changed.map_err(ApiError::from)?.ok_or_else(error::current_password_wrong)?;
        Ok(Response::new(ChangePasswordResponse {}))
    }

    async fn request_email_verification(
        &self,
        request: Request<RequestEmailVerificationRequest>,
    ) -> Result<Response<RequestEmailVerificationResponse>, Status> {
        let user_id = self.app.caller(&request).await?.user.id;
        let client = self.app.clients.resolve(&request).await?;
        let account = users::credentials_by_id(&self.app.db, user_id).await.map_err(ApiError::from)?;
        let account = account.ok_or_else(error::user_not_found)?;
        self.app.actions.request_verification(&account, &client).await?;
        Ok(Response::new(RequestEmailVerificationResponse {}))
    }

    async fn change_email(
        &self,
        request: Request<ChangeEmailRequest>,
    ) -> Result<Response<ChangeEmailResponse>, Status> {
        let ActiveCaller { user, session_id, .. } = self.app.unlimited_caller(&request).await?;
        let event = self.app.clients.event(Kind::EmailChanged, Actor::Owner, Some(session_id), &request).await?;
        let (new_email, current) = request::change_email(request.into_inner(), &user.email)?;
        if !self.app.mailer.is_on() {
            return Err(error::mail_disabled().into());
        }
        let verified_version = self.verify_current_password(&user, current, &event).await?;
        let account = users::credentials_by_id(&self.app.db, user.id).await.map_err(ApiError::from)?;
        let account = account.filter(|account| account.password_version == verified_version);
        // If the password was changed concurrently, the verified one is no longer current.
        let account = account.ok_or_else(error::current_password_wrong)?;
        self.app.actions.request_email_change(&account, &new_email, &event.client).await?;
        Ok(Response::new(ChangeEmailResponse {}))
    }

    async fn delete_me(&self, request: Request<DeleteMeRequest>) -> Result<Response<DeleteMeResponse>, Status> {
        let ActiveCaller { user, session_id, .. } = self.app.caller(&request).await?;
        let event = self.app.clients.event(Kind::AccountDeleted, Actor::Owner, Some(session_id), &request).await?;
        let current = request::current_password(request.into_inner().current_password)?;
        let verified_version = self.verify_current_password(&user, current, &event).await?;
        let App { db, clock, feed, .. } = &*self.app;
        let deleted = accounts::delete(db, clock.now(), user.id, verified_version, event).await;
        feed.wake();
        if deleted.map_err(ApiError::from)?.is_none() {
            return Err(self.deletion_error(user.id, verified_version).await?.into());
        }
        tracing::info!(user_id = %user.id, "an account was deleted");
        Ok(Response::new(DeleteMeResponse {}))
    }

    async fn reauthenticate(
        &self,
        request: Request<ReauthenticateRequest>,
    ) -> Result<Response<ReauthenticateResponse>, Status> {
        let ActiveCaller { user, session_id, .. } = self.app.interactive_caller(&request).await?;
        let event = self.app.clients.event(Kind::Reauthenticated, Actor::Owner, Some(session_id), &request).await?;
        let App { sessions, address_limits, .. } = &*self.app;
        let response = match identity_proof(request.into_inner())? {
            IdentityProof::Password(password) => {
                self.verify_current_password(&user, password, &event).await?;
                sessions.reauthenticate(user, session_id, event).await?
            }
            IdentityProof::Factor(factor) => {
                address_limits.check(RateLimitedAction::Login, &event.client)?;
                sessions.reauthenticate_with_factor(user, session_id, factor, event).await?
            }
        };
        Ok(Response::new(response))
    }

    async fn begin_passkey_reauthentication(
        &self,
        request: Request<BeginPasskeyReauthenticationRequest>,
    ) -> Result<Response<BeginPasskeyReauthenticationResponse>, Status> {
        let ActiveCaller { user, session_id, .. } = self.app.interactive_caller(&request).await?;
        let options = self.app.sessions.passkeys.reauthentication_options(user.id, session_id).await?;
        Ok(Response::new(BeginPasskeyReauthenticationResponse { options }))
    }

    async fn list_my_security_events(
        &self,
        request: Request<ListMySecurityEventsRequest>,
    ) -> Result<Response<ListMySecurityEventsResponse>, Status> {
        let user_id = self.app.caller(&request).await?.user.id;
        let ListMySecurityEventsRequest { page_size, page_token } = request.into_inner();
        let (size, tokens) = (request::page_size(page_size)?, &self.app.page_tokens);
        let before = tokens.open_id(user_id, OWN_EVENTS_ARGUMENTS, &page_token)?;
        let selection = Selection { user_id: Some(user_id), kind: None, before };
        let rows = audit::list(&self.app.db, selection, size + 1).await.map_err(ApiError::from)?;
        let (events, next_page_token) = tokens.paginate(user_id, OWN_EVENTS_ARGUMENTS, rows, size, |event| event.id);
        let events = events.into_iter().map(Into::into).collect();
        Ok(Response::new(ListMySecurityEventsResponse { events, next_page_token }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let caller = self.app.caller(&request).await?;
        let sessions = sessions::list_active(&self.app.db, self.app.clock.now(), caller.user.id).await;
        let sessions = sessions.map_err(ApiError::from)?.into_iter();
        let sessions = sessions.map(|session| response::session(session, caller.session_id)).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn revoke_session(
        &self,
        request: Request<RevokeSessionRequest>,
    ) -> Result<Response<RevokeSessionResponse>, Status> {
        let caller = self.app.caller(&request).await?;
        let session_id = request::id("session_id", &request.get_ref().session_id)?;
        let selector = SessionSelector::SessionOfUser { session_id, user_id: caller.user.id };
        match self.revoke(&request, &caller, selector).await? {
            0 => Err(error::session_not_found().into()),
            _ => Ok(Response::new(RevokeSessionResponse {})),
        }
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<RevokeOtherSessionsRequest>,
    ) -> Result<Response<RevokeOtherSessionsResponse>, Status> {
        let caller = self.app.caller(&request).await?;
        let selector = SessionSelector::AllOfUser { user_id: caller.user.id, except: Some(caller.session_id) };
        let revoked_count = self.revoke(&request, &caller, selector).await?;
        Ok(Response::new(RevokeOtherSessionsResponse { revoked_count }))
    }

    async fn revoke_all_sessions(
        &self,
        request: Request<RevokeAllSessionsRequest>,
    ) -> Result<Response<RevokeAllSessionsResponse>, Status> {
        let caller = self.app.caller(&request).await?;
        let selector = SessionSelector::AllOfUser { user_id: caller.user.id, except: None };
        let revoked_count = self.revoke(&request, &caller, selector).await?;
        Ok(Response::new(RevokeAllSessionsResponse { revoked_count }))
    }

    async fn export_me(&self, request: Request<ExportMeRequest>) -> Result<Response<ExportMeResponse>, Status> {
        let caller = self.app.caller(&request).await?;
        let with_credentials = !Caller::from_request(&request)?.has_personal_access_token();
        Ok(Response::new(export::page(&self.app, caller, with_credentials, request.into_inner()).await?))
    }
}

impl AccountService {
    /// Revokes sessions of the caller and returns how many of them were active.
    async fn revoke<T: Sync>(
        &self,
        request: &Request<T>,
        caller: &ActiveCaller,
        selector: SessionSelector,
    ) -> Result<i32, ApiError> {
        let session_id = Some(caller.session_id);
        let event = self.app.clients.event(Kind::SessionsRevoked, Actor::Owner, session_id, request).await?;
        let revoked = self.app.sessions.revoke(selector, RevocationReason::Requested, event).await?;
        let now = self.app.clock.now();
        let active = revoked.iter().filter(|session| session.expires_at > now).count();
        i32::try_from(active).map_err(ApiError::internal)
    }

    /// Returns the error for an account that was not deleted, whose password was verified in this version.
    async fn deletion_error(&self, user_id: Uuid, verified_version: i64) -> Result<ApiError, ApiError> {
        let credentials = users::credentials_by_id(&self.app.db, user_id).await?.ok_or_else(error::user_not_found)?;
        Ok(if credentials.password_version == verified_version {
            error::last_admin()
        } else {
            error::current_password_wrong()
        })
    }

    /// Checks the current password of the caller, and returns its version. If it is wrong, adds an event to the audit
    /// log. `event` is the event of the change that requires the password. Counts against the rate limit of logins,
    /// because the call costs as much and adds an event as well.
    async fn verify_current_password(&self, user: &User, password: Password, event: &Event) -> Result<i64, ApiError> {
        let App { db, clock, passwords, address_limits, .. } = &*self.app;
        address_limits.check(RateLimitedAction::Login, &event.client)?;
        let credentials = users::credentials_by_id(db, user.id).await?.ok_or_else(error::user_not_found)?;
        let Credentials { password_hash, password_version, .. } = credentials;
        let compared = passwords.compare(&user.email, &event.client, password, Some(password_hash.clone()));
        let (comparison, attempt) = compared.await?;
        if comparison == Comparison::Different {
            let wrong = Event { id: clock.new_id(), kind: Kind::CurrentPasswordWrong, ..event.clone() };
            let event = wrong.with_detail("attempted", &event.kind.name());
            let audit = audit::add(db, clock.now(), user.id, event);
            // Both writes run concurrently, to share a commit.
            let (recorded, audited) = tokio::join!(passwords.record_failure(&attempt), audit);
            recorded?;
            audited?;
            return Err(error::current_password_wrong());
        }
        passwords.record_success(&attempt).await?;
        Ok(password_version)
    }
}
