//! `taskey.auth.v1.DeviceAuthorizationService`: users decide about devices that ask for a session.

use std::sync::Arc;

use service_kit::status::ApiError;
use taskey_proto::auth::v1::{
    self as pb, ApproveDeviceAuthorizationRequest, DenyDeviceAuthorizationRequest, GetDeviceAuthorizationRequest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    app::App,
    caller::ActiveCaller,
    error,
    login::address_limits::RateLimitedAction,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        device_authorization::{DeviceAuthorization, UserCode},
    },
    store::device_authorizations,
};

/// The implementation of the service.
pub struct DeviceAuthorizationService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::device_authorization_service_server::DeviceAuthorizationService for DeviceAuthorizationService {
    async fn get_device_authorization(
        &self,
        request: Request<GetDeviceAuthorizationRequest>,
    ) -> Result<Response<pb::DeviceAuthorization>, Status> {
        let App { db, clock, clients, .. } = &*self.app;
        let user_id = self.app.interactive_caller(&request).await?.user.id;
        let client = clients.resolve(&request).await?;
        let code = self.user_code(&request.get_ref().user_code, user_id, &client)?;
        let found = device_authorizations::pending(db, clock.now(), code).await.map_err(ApiError::from)?;
        Ok(Response::new(found.ok_or_else(error::device::user_code_invalid)?.into()))
    }

    async fn approve_device_authorization(
        &self,
        request: Request<ApproveDeviceAuthorizationRequest>,
    ) -> Result<Response<pb::DeviceAuthorization>, Status> {
        // A limited session could otherwise permit a session that is not.
        let caller = self.app.fresh_unlimited_caller(&request).await?;
        let event = self.event(Kind::DeviceApproved, &caller, &request).await?;
        Ok(Response::new(self.decide(&caller, &request.get_ref().user_code, event).await?.into()))
    }

    async fn deny_device_authorization(
        &self,
        request: Request<DenyDeviceAuthorizationRequest>,
    ) -> Result<Response<pb::DeviceAuthorization>, Status> {
        let caller = self.app.interactive_caller(&request).await?;
        let event = self.event(Kind::DeviceDenied, &caller, &request).await?;
        Ok(Response::new(self.decide(&caller, &request.get_ref().user_code, event).await?.into()))
    }
}

impl DeviceAuthorizationService {
    async fn event<T: Sync>(&self, kind: Kind, caller: &ActiveCaller, request: &Request<T>) -> Result<Event, ApiError> {
        self.app.clients.event(kind, Actor::Owner, Some(caller.session_id), request).await
    }

    /// Parses a code. All codes are counted, so that nobody can guess them.
    fn user_code(&self, text: &str, user_id: Uuid, client: &ClientInfo) -> Result<UserCode, ApiError> {
        self.app.address_limits.check(RateLimitedAction::Login, client)?;
        self.app.oauth.user_code_limit.check(user_id)?;
        UserCode::parse(text).ok_or_else(error::device::user_code_invalid)
    }

    async fn decide(&self, caller: &ActiveCaller, code: &str, event: Event) -> Result<DeviceAuthorization, ApiError> {
        let App { db, clock, .. } = &*self.app;
        let code = self.user_code(code, caller.user.id, &event.client)?;
        let ids = (caller.user.id, caller.session_id);
        let decided = device_authorizations::decide(db, clock.now(), code, ids, event).await?;
        decided.ok_or_else(error::device::user_code_invalid)
    }
}
