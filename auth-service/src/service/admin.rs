//! `taskey.auth.v1.AdminService`: the administration of accounts.

use std::sync::Arc;

use service_kit::{auth::scope::Scope, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, CreateServiceAccountRequest, DeleteServiceAccountRequest, DeleteServiceAccountResponse,
    DeleteUserFactorsRequest, DeleteUserFactorsResponse, DisableUserRequest, EnableUserRequest, GetUserRequest,
    ListAuditEventsRequest, ListAuditEventsResponse, ListMailRequest, ListMailResponse, ListServiceAccountsRequest,
    ListServiceAccountsResponse, ListUserSessionsRequest, ListUserSessionsResponse, ListUsersRequest,
    ListUsersResponse, RetryMailRequest, RevokeUserSessionsRequest, RevokeUserSessionsResponse,
    RotateServiceAccountSecretRequest, SetUserRolesRequest, UnlockUserRequest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    request::{self, EventQuery, UserQuery},
    service_account_request::{new_account, rotation},
};
use crate::{
    app::App,
    caller::Administrator,
    error,
    model::{
        audit::{Actor, Event, Kind},
        login_throttle::address_key,
        service_account::SecretHash,
        user::User,
    },
    response,
    roles::set_roles,
    store::{
        accounts, audit, login_attempts, mail_records,
        revocations::{RevocationReason, SessionSelector},
        service_accounts::{self, Inserted},
        sessions, users,
    },
};

/// Maximum length of a filter in the audit log, in characters.
const MAX_RECORDED_FILTER: usize = 256;

/// The changes that programs, which have a personal access token or are service accounts, and sessions that are limited to scopes
/// can make. All others change credentials, or what their owners may do.
const CHANGES_WITH_SCOPES: [Kind; 5] =
    [Kind::UserDisabled, Kind::UserEnabled, Kind::UserUnlocked, Kind::SessionsRevoked, Kind::MailRetried];

/// The implementation of the service.
pub struct AdminService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for AdminService {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<pb::User>, Status> {
        let (admin, event) = self.read_event("GetUser", &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        let user = self.user(user_id).await?;
        self.record_read(&admin, event.with_detail("user_id", &user_id)).await?;
        Ok(Response::new(user.into()))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let (admin, event) = self.read_event("ListUsers", &request).await?;
        let recorded_filter: String = request.get_ref().filter.chars().take(MAX_RECORDED_FILTER).collect();
        let UserQuery { size, filter, arguments, page_token } = UserQuery::parse(request.into_inner())?;
        let tokens = &self.app.page_tokens;
        let before = tokens.open_id(admin.id, &arguments, &page_token)?;
        let rows = users::list(&self.app.db, &self.app.searches, admin.id, &filter, before, size + 1).await?;
        self.record_read(&admin, event.with_detail("filter", &recorded_filter)).await?;
        let (users, next_page_token) = tokens.paginate(admin.id, &arguments, rows, size, |user| user.id);
        let users = users.into_iter().map(Into::into).collect();
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn disable_user(&self, request: Request<DisableUserRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.event(Kind::UserDisabled, &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        Ok(Response::new(self.set_disabled(user_id, true, event).await?.into()))
    }

    async fn enable_user(&self, request: Request<EnableUserRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.event(Kind::UserEnabled, &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        Ok(Response::new(self.set_disabled(user_id, false, event).await?.into()))
    }

    async fn unlock_user(&self, request: Request<UnlockUserRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.event(Kind::UserUnlocked, &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        let user = self.user(user_id).await?;
        let App { db, clock, .. } = &*self.app;
        let address = address_key(&user.email);
        login_attempts::unlock(db, clock.now(), user_id, address, event).await.map_err(ApiError::from)?;
        Ok(Response::new(user.into()))
    }

    async fn delete_user_factors(
        &self,
        request: Request<DeleteUserFactorsRequest>,
    ) -> Result<Response<DeleteUserFactorsResponse>, Status> {
        let event = self.event(Kind::UserFactorsDeleted, &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        let deleted = self.app.factors.delete_all(user_id, event).await?;
        let deleted_count = i32::try_from(deleted).unwrap_or(i32::MAX);
        Ok(Response::new(DeleteUserFactorsResponse { deleted_count }))
    }

    async fn set_user_roles(&self, request: Request<SetUserRolesRequest>) -> Result<Response<pb::User>, Status> {
        let event = self.event(Kind::RolesChanged, &request).await?;
        let (user_id, roles) = request::roles(request.get_ref())?;
        let user = set_roles(&self.app.db, &self.app.clock, user_id, &event, |_| roles.clone()).await?;
        // Sessions may have been revoked.
        self.app.feed.wake();
        Ok(Response::new(user.into()))
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<RevokeUserSessionsRequest>,
    ) -> Result<Response<RevokeUserSessionsResponse>, Status> {
        let event = self.event(Kind::SessionsRevoked, &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        self.user(user_id).await?;
        let selector = SessionSelector::AllOfUser { user_id, except: None };
        let revoked = self.app.sessions.revoke(selector, RevocationReason::Requested, event).await?;
        let now = self.app.clock.now();
        let active = revoked.iter().filter(|session| session.expires_at > now).count();
        let revoked_count = i32::try_from(active).map_err(ApiError::internal)?;
        Ok(Response::new(RevokeUserSessionsResponse { revoked_count }))
    }

    async fn list_user_sessions(
        &self,
        request: Request<ListUserSessionsRequest>,
    ) -> Result<Response<ListUserSessionsResponse>, Status> {
        let (admin, event) = self.read_event("ListUserSessions", &request).await?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        self.user(user_id).await?;
        let sessions = sessions::list_active(&self.app.db, self.app.clock.now(), user_id).await;
        let sessions = sessions.map_err(ApiError::from)?.into_iter();
        self.record_read(&admin, event.with_detail("user_id", &user_id)).await?;
        let sessions = sessions.map(|session| response::session(session, admin.session_id)).collect();
        Ok(Response::new(ListUserSessionsResponse { sessions }))
    }

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (admin, mut event) = self.read_event("ListAuditEvents", &request).await?;
        let EventQuery { size, mut selection, arguments, page_token } = EventQuery::parse(request.into_inner())?;
        let tokens = &self.app.page_tokens;
        selection.before = tokens.open_id(admin.id, &arguments, &page_token)?;
        let rows = audit::list(&self.app.db, selection, size + 1).await.map_err(ApiError::from)?;
        if let Some(user_id) = selection.user_id {
            event = event.with_detail("user_id", &user_id);
        }
        self.record_read(&admin, event).await?;
        let (events, next_page_token) = tokens.paginate(admin.id, &arguments, rows, size, |event| event.id);
        let events = events.into_iter().map(Into::into).collect();
        Ok(Response::new(ListAuditEventsResponse { events, next_page_token }))
    }

    async fn list_mail(&self, request: Request<ListMailRequest>) -> Result<Response<ListMailResponse>, Status> {
        let (admin, event) = self.read_event("ListMail", &request).await?;
        let ListMailRequest { page_size, page_token, state } = request.into_inner();
        let (size, tokens) = (request::page_size(page_size)?, &self.app.page_tokens);
        let (filter, arguments) = (request::mail_state(state)?, format!("mails:{state}").into_bytes());
        let before = tokens.open_id(admin.id, &arguments, &page_token)?;
        let rows = mail_records::list(&self.app.db, filter, before, size + 1).await.map_err(ApiError::from)?;
        self.record_read(&admin, event).await?;
        let (mails, next_page_token) = tokens.paginate(admin.id, &arguments, rows, size, |mail| mail.id);
        let mails = mails.into_iter().map(response::mail).collect();
        Ok(Response::new(ListMailResponse { mails, next_page_token }))
    }

    async fn retry_mail(&self, request: Request<RetryMailRequest>) -> Result<Response<pb::Mail>, Status> {
        let event = self.event(Kind::MailRetried, &request).await?;
        let mail_id = request::id("mail_id", &request.get_ref().mail_id)?;
        let App { db, clock, mailer, .. } = &*self.app;
        let event = event.with_detail("mail_id", &mail_id);
        let mail = mail_records::retry(db, clock.now(), mail_id, event).await.map_err(ApiError::from)?;
        mailer.wake();
        Ok(Response::new(response::mail(mail.ok_or_else(error::mail_not_found)?)))
    }

    async fn create_service_account(
        &self,
        request: Request<CreateServiceAccountRequest>,
    ) -> Result<Response<pb::ServiceAccount>, Status> {
        let event = self.event(Kind::ServiceAccountCreated, &request).await?;
        let App { db, clock, .. } = &*self.app;
        let (new, secret) = new_account(request.into_inner(), clock.new_id())?;
        let event = event.with_detail("label", &new.label).with_detail("scopes", &new.scopes);
        let inserted = service_accounts::insert(db, clock.now(), new, event).await;
        match inserted.map_err(ApiError::from)? {
            Inserted::Yes(created) => {
                Ok(Response::new(pb::ServiceAccount { secret: secret.to_string(), ..created.into() }))
            }
            Inserted::TooMany => Err(error::too_many_service_accounts().into()),
            Inserted::CertificateNameTaken => Err(error::certificate_name_taken().into()),
        }
    }

    async fn list_service_accounts(
        &self,
        request: Request<ListServiceAccountsRequest>,
    ) -> Result<Response<ListServiceAccountsResponse>, Status> {
        let (admin, event) = self.read_event("ListServiceAccounts", &request).await?;
        let ListServiceAccountsRequest { page_size, page_token } = request.into_inner();
        let (size, tokens) = (request::page_size(page_size)?, &self.app.page_tokens);
        let before = tokens.open_id(admin.id, b"service_accounts", &page_token)?;
        let rows = service_accounts::list(&self.app.db, before, size + 1).await.map_err(ApiError::from)?;
        self.record_read(&admin, event).await?;
        let (accounts, next_page_token) =
            tokens.paginate(admin.id, b"service_accounts", rows, size, |account| account.id);
        let service_accounts = accounts.into_iter().map(Into::into).collect();
        Ok(Response::new(ListServiceAccountsResponse { service_accounts, next_page_token }))
    }

    async fn rotate_service_account_secret(
        &self,
        request: Request<RotateServiceAccountSecretRequest>,
    ) -> Result<Response<pb::ServiceAccount>, Status> {
        let event = self.event(Kind::ServiceAccountSecretRotated, &request).await?;
        let App { db, clock, feed, .. } = &*self.app;
        let (id, overlap) = rotation(request.get_ref())?;
        let (secret, hash) = SecretHash::generate();
        let expires_at = overlap.map(|overlap| clock.now() + overlap);
        let rotated = service_accounts::rotate(db, clock.now(), id, hash, expires_at, event).await;
        // Sessions may have been revoked.
        feed.wake();
        let rotated = rotated.map_err(ApiError::from)?.ok_or_else(error::service_account_not_found)?;
        Ok(Response::new(pb::ServiceAccount { secret: secret.to_string(), ..rotated.into() }))
    }

    async fn delete_service_account(
        &self,
        request: Request<DeleteServiceAccountRequest>,
    ) -> Result<Response<DeleteServiceAccountResponse>, Status> {
        let event = self.event(Kind::ServiceAccountDeleted, &request).await?;
        let App { db, clock, feed, .. } = &*self.app;
        let id = request::id("id", &request.get_ref().id)?;
        let is_deleted = service_accounts::delete(db, clock.now(), id, event).await.map_err(ApiError::from)?;
        feed.wake();
        if is_deleted {
            return Ok(Response::new(DeleteServiceAccountResponse {}));
        }
        Err(error::service_account_not_found().into())
    }
}

impl AdminService {
    /// Returns the event of a call that changes something, whose caller may do so.
    async fn event<T: Sync>(&self, kind: Kind, request: &Request<T>) -> Result<Event, ApiError> {
        let admin = self.app.admin(request, Scope::AdminWrite).await?;
        if !CHANGES_WITH_SCOPES.contains(&kind) {
            admin.require_unlimited_login()?;
        }
        self.app.clients.event(kind, admin.actor(), None, request).await
    }

    /// Returns the administrator who makes a call that reads, and the event of the call.
    async fn read_event<T: Sync>(&self, rpc: &str, request: &Request<T>) -> Result<(Administrator, Event), ApiError> {
        let admin = self.app.admin(request, Scope::AdminRead).await?;
        let event = self.app.clients.event(Kind::AdminRead, Actor::Owner, Some(admin.session_id), request).await?;
        Ok((admin, event.with_detail("rpc", &rpc)))
    }

    /// Adds the event of a read to the account of the administrator, before the response is sent.
    async fn record_read(&self, admin: &Administrator, event: Event) -> Result<(), ApiError> {
        Ok(audit::add(&self.app.db, self.app.clock.now(), admin.id, event).await?)
    }

    async fn user(&self, user_id: Uuid) -> Result<User, ApiError> {
        users::by_id(&self.app.db, user_id).await?.ok_or_else(error::user_not_found)
    }

    async fn set_disabled(&self, user_id: Uuid, disabled: bool, event: Event) -> Result<User, ApiError> {
        let App { db, clock, feed, .. } = &*self.app;
        let changed = accounts::set_disabled(db, clock.now(), user_id, disabled, event).await?;
        feed.wake();
        if let Some(user) = changed {
            return Ok(user);
        }
        let user = self.user(user_id).await?;
        if user.disabled == disabled { Ok(user) } else { Err(error::last_admin()) }
    }
}
