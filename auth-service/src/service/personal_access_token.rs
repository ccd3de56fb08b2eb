//! `taskey.auth.v1.PersonalAccessTokenService`: tokens for the programs of a user.

use std::sync::Arc;

use service_kit::{auth::personal_access_token::PersonalAccessToken, status::ApiError};
use taskey_proto::auth::v1::{
    self as pb, CreatePersonalAccessTokenRequest, DeletePersonalAccessTokenRequest, DeletePersonalAccessTokenResponse,
    GetPersonalAccessTokenRequest, ListPersonalAccessTokensRequest, ListPersonalAccessTokensResponse,
    RotatePersonalAccessTokenRequest, UpdatePersonalAccessTokenRequest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    personal_access_token_request::{TokenUpdate, new_token},
    request,
};
use crate::{
    app::App,
    caller::ActiveCaller,
    error,
    model::{
        audit::{Actor, Event, Kind},
        personal_access_token::StoredToken,
    },
    store::personal_access_tokens::{self, Change},
};

/// The implementation of the service.
pub struct PersonalAccessTokenService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::personal_access_token_service_server::PersonalAccessTokenService for PersonalAccessTokenService {
    async fn create_personal_access_token(
        &self,
        request: Request<CreatePersonalAccessTokenRequest>,
    ) -> Result<Response<pb::PersonalAccessToken>, Status> {
        let App { db, clock, .. } = &*self.app;
        let caller = self.app.fresh_caller(&request).await?;
        let event = self.event(Kind::PersonalAccessTokenCreated, &caller, &request).await?;
        let ids = (clock.new_id(), clock.new_id());
        let new = new_token(request.into_inner(), &caller, clock.now(), ids)?;
        let event = event.with_detail("token_id", &new.id).with_detail("scopes", &new.scopes);
        let (secret, hashed) = PersonalAccessToken::generate(new.id);
        let created = personal_access_tokens::insert(db, clock.now(), caller.user.id, new, hashed, event).await;
        let created = created.map_err(ApiError::from)?.ok_or_else(error::too_many_personal_access_tokens)?;
        Ok(Response::new(pb::PersonalAccessToken { secret: secret.to_string(), ..created.into() }))
    }

    async fn get_personal_access_token(
        &self,
        request: Request<GetPersonalAccessTokenRequest>,
    ) -> Result<Response<pb::PersonalAccessToken>, Status> {
        let user_id = self.app.interactive_caller(&request).await?.user.id;
        let id = request::id("id", &request.get_ref().id)?;
        Ok(Response::new(self.find(user_id, id).await?.into()))
    }

    async fn list_personal_access_tokens(
        &self,
        request: Request<ListPersonalAccessTokensRequest>,
    ) -> Result<Response<ListPersonalAccessTokensResponse>, Status> {
        let App { db, clock, .. } = &*self.app;
        let user_id = self.app.interactive_caller(&request).await?.user.id;
        let tokens = personal_access_tokens::list(db, clock.now(), user_id).await.map_err(ApiError::from)?;
        let personal_access_tokens = tokens.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPersonalAccessTokensResponse { personal_access_tokens }))
    }

    async fn update_personal_access_token(
        &self,
        request: Request<UpdatePersonalAccessTokenRequest>,
    ) -> Result<Response<pb::PersonalAccessToken>, Status> {
        let caller = self.app.fresh_caller(&request).await?;
        let event = self.event(Kind::PersonalAccessTokenUpdated, &caller, &request).await?;
        let (metadata, _, request) = request.into_parts();
        let TokenUpdate { id, label, networks, repeated } = TokenUpdate::parse(&metadata, request)?;
        self.require_scopes_within(&caller, id).await?;
        if !repeated.is_empty() {
            repeated.check(&pb::PersonalAccessToken::from(self.find(caller.user.id, id).await?))?;
        }
        let change = Change::Update { label, networks };
        Ok(Response::new(self.change(caller.user.id, id, change, event).await?.into()))
    }

    async fn rotate_personal_access_token(
        &self,
        request: Request<RotatePersonalAccessTokenRequest>,
    ) -> Result<Response<pb::PersonalAccessToken>, Status> {
        let caller = self.app.fresh_caller(&request).await?;
        let event = self.event(Kind::PersonalAccessTokenRotated, &caller, &request).await?;
        let id = request::id("id", &request.get_ref().id)?;
        self.require_scopes_within(&caller, id).await?;
        let (secret, hashed) = PersonalAccessToken::generate(id);
        let rotated = self.change(caller.user.id, id, Change::Rotate(hashed), event).await?;
        Ok(Response::new(pb::PersonalAccessToken { secret: secret.to_string(), ..rotated.into() }))
    }

    async fn delete_personal_access_token(
        &self,
        request: Request<DeletePersonalAccessTokenRequest>,
    ) -> Result<Response<DeletePersonalAccessTokenResponse>, Status> {
        let caller = self.app.fresh_caller(&request).await?;
        let event = self.event(Kind::PersonalAccessTokenDeleted, &caller, &request).await?;
        let id = request::id("id", &request.get_ref().id)?;
        self.change(caller.user.id, id, Change::Delete, event).await?;
        Ok(Response::new(DeletePersonalAccessTokenResponse {}))
    }
}

impl PersonalAccessTokenService {
    async fn event<T: Sync>(&self, kind: Kind, caller: &ActiveCaller, request: &Request<T>) -> Result<Event, ApiError> {
        self.app.clients.event(kind, Actor::Owner, Some(caller.session_id), request).await
    }

    async fn find(&self, user_id: Uuid, id: Uuid) -> Result<StoredToken, ApiError> {
        let App { db, clock, .. } = &*self.app;
        let found = personal_access_tokens::get(db, clock.now(), user_id, id).await?;
        found.ok_or_else(error::personal_access_token_not_found)
    }

    /// Checks that a session that is limited to scopes has all those of a token. These never change.
    async fn require_scopes_within(&self, caller: &ActiveCaller, id: Uuid) -> Result<(), ApiError> {
        let Some(granted) = caller.scopes else { return Ok(()) };
        let token = self.find(caller.user.id, id).await?;
        let is_within = token.scopes.iter().all(|scope| granted.contains(scope));
        if is_within { Ok(()) } else { Err(error::token_has_more_scopes()) }
    }

    /// Changes a token, and wakes the feed, because its session may have been revoked.
    async fn change(&self, user_id: Uuid, id: Uuid, change: Change, event: Event) -> Result<StoredToken, ApiError> {
        let App { db, clock, feed, .. } = &*self.app;
        let event = event.with_detail("token_id", &id);
        let new_session = clock.new_id();
        let changed = personal_access_tokens::change(db, clock.now(), (user_id, id), change, new_session, event).await;
        feed.wake();
        changed?.ok_or_else(error::personal_access_token_not_found)
    }
}
