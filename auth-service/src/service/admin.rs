//! `taskey.auth.v1.AdminService`: the administration of accounts.

use std::sync::Arc;

use service_kit::{auth::interceptor::Caller, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, DisableUserRequest, EnableUserRequest, GetUserRequest, ListAuditEventsRequest, ListAuditEventsResponse,
    ListUsersRequest, ListUsersResponse, RevokeUserSessionsRequest, RevokeUserSessionsResponse, SetUserRolesRequest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::request::{self, EventQuery, UserQuery};
use crate::{
    app::App,
    error,
    model::{
        audit::{Actor, Event, Kind},
        role::Role,
        user::User,
    },
    roles::set_roles,
    store::{
        accounts, audit,
        revocations::{RevocationReason, SessionSelector},
        users,
    },
};

/// The implementation of the service.
pub struct AdminService {
    pub(crate) app: Arc<App>,
}

/// Returns the caller, who must be an administrator.
fn admin<T>(request: &Request<T>) -> Result<Uuid, ApiError> {
    let caller = Caller::from_request(request)?;
    caller.require_role(&Role::Admin.to_string())?;
    Ok(caller.user_id())
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for AdminService {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<pb::User>, Status> {
        admin(&request)?;
        let user_id = request::id("user_id", &request.get_ref().user_id)?;
        Ok(Response::new(self.user(user_id).await?.into()))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let admin = admin(&request)?;
        let UserQuery { size, filter, arguments, page_token } = UserQuery::parse(request.into_inner())?;
        let tokens = &self.app.page_tokens;
        let before = tokens.open_id(admin, &arguments, &page_token)?;
        let rows = users::list(&self.app.db, &self.app.searches, admin, &filter, before, size + 1).await?;
        let (users, next_page_token) = tokens.paginate(admin, &arguments, rows, size, |user| user.id);
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

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let admin = admin(&request)?;
        let EventQuery { size, mut selection, arguments, page_token } = EventQuery::parse(request.into_inner())?;
        let tokens = &self.app.page_tokens;
        selection.before = tokens.open_id(admin, &arguments, &page_token)?;
        let rows = audit::list(&self.app.db, selection, size + 1).await.map_err(ApiError::from)?;
        let (events, next_page_token) = tokens.paginate(admin, &arguments, rows, size, |event| event.id);
        let events = events.into_iter().map(Into::into).collect();
        Ok(Response::new(ListAuditEventsResponse { events, next_page_token }))
    }
}

impl AdminService {
    async fn event<T: Sync>(&self, kind: Kind, request: &Request<T>) -> Result<Event, ApiError> {
        self.app.clients.event(kind, Actor::Admin(admin(request)?), None, request).await
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
