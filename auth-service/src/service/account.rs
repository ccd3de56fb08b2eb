//! `taskey.auth.v1.AccountService`: the caller's own account and sessions.

use std::sync::Arc;

use service_kit::{interceptor::Caller, status::Refusal};
use taskey_proto::auth::v1::{
    self as pb, GetMeRequest, ListSessionsRequest, ListSessionsResponse, RevokeAllSessionsRequest,
    RevokeAllSessionsResponse, RevokeOtherSessionsRequest, RevokeOtherSessionsResponse, RevokeSessionRequest,
    RevokeSessionResponse, UpdateMeRequest,
};
use tonic::{Request, Response, Status};

use super::request;
use crate::{
    app::App,
    error,
    store::{
        revocations::{Which, Why},
        sessions, users,
    },
};

/// The service.
pub struct AccountService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::account_service_server::AccountService for AccountService {
    async fn get_me(&self, request: Request<GetMeRequest>) -> Result<Response<pb::User>, Status> {
        let caller = Caller::of(&request)?;
        let user = users::by_id(&self.app.db, caller.user_id()).await.map_err(Refusal::from)?;
        Ok(Response::new(user.ok_or_else(error::user_not_found)?.into()))
    }

    async fn update_me(&self, request: Request<UpdateMeRequest>) -> Result<Response<pb::User>, Status> {
        let App { db, clock, .. } = &*self.app;
        let user_id = Caller::of(&request)?.user_id();
        let user = match request::new_display_name(request.into_inner())? {
            Some(name) => users::rename(db, clock.now(), user_id, name).await,
            None => users::by_id(db, user_id).await,
        };
        Ok(Response::new(user.map_err(Refusal::from)?.ok_or_else(error::user_not_found)?.into()))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let sessions = sessions::live(&self.app.db, self.app.clock.now(), caller.user_id()).await;
        let sessions = sessions.map_err(Refusal::from)?.into_iter();
        let sessions = sessions.map(|session| session.into_pb(caller.session_id())).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn revoke_session(
        &self,
        request: Request<RevokeSessionRequest>,
    ) -> Result<Response<RevokeSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let session_id = request::id("session_id", &request.get_ref().session_id)?;
        match self.end_sessions(Which::OfUser { session_id, user_id: caller.user_id() }).await? {
            0 => Err(error::session_not_found().into()),
            _ => Ok(Response::new(RevokeSessionResponse {})),
        }
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<RevokeOtherSessionsRequest>,
    ) -> Result<Response<RevokeOtherSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (user_id, except) = (caller.user_id(), Some(caller.session_id()));
        let revoked_count = self.end_sessions(Which::AllOfUser { user_id, except }).await?;
        Ok(Response::new(RevokeOtherSessionsResponse { revoked_count }))
    }

    async fn revoke_all_sessions(
        &self,
        request: Request<RevokeAllSessionsRequest>,
    ) -> Result<Response<RevokeAllSessionsResponse>, Status> {
        let user_id = Caller::of(&request)?.user_id();
        let revoked_count = self.end_sessions(Which::AllOfUser { user_id, except: None }).await?;
        Ok(Response::new(RevokeAllSessionsResponse { revoked_count }))
    }
}

impl AccountService {
    /// Ends sessions and says how many of them were live.
    async fn end_sessions(&self, which: Which) -> Result<i32, Refusal> {
        let now = self.app.clock.now();
        let live = self.app.revoke(which, Why::Wanted).await?.into_iter().filter(|end| *end > now).count();
        i32::try_from(live).map_err(Refusal::internal)
    }
}
