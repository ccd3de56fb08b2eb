//! `taskey.auth.v1.FactorService`: the second factors of the caller.

use std::sync::Arc;

use service_kit::status::ApiError;
use taskey_proto::auth::v1::{
    self as pb, BeginPasskeyRequest, BeginPasskeyResponse, ConfirmTotpRequest, ConfirmTotpResponse, CreateTotpRequest,
    CreateTotpResponse, DeleteFactorRequest, DeleteFactorResponse, FinishPasskeyRequest, FinishPasskeyResponse,
    ListFactorsRequest, ListFactorsResponse, RegenerateRecoveryCodesRequest, RegenerateRecoveryCodesResponse,
    UpdateFactorRequest,
};
use tonic::{Request, Response, Status};

use super::{
    factor_request::{FactorUpdate, confirmation, label, passkey_registration},
    request,
};
use crate::{
    app::App,
    caller::ActiveCaller,
    error,
    login::address_limits::RateLimitedAction,
    model::audit::{Actor, Event, Kind},
    qr_code,
    store::factors,
};

/// The implementation of the service.
pub struct FactorService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::factor_service_server::FactorService for FactorService {
    async fn create_totp(&self, request: Request<CreateTotpRequest>) -> Result<Response<CreateTotpResponse>, Status> {
        let user = self.app.fresh_unlimited_caller(&request).await?.user;
        let label = label(request.into_inner())?;
        let (id, secret) = self.app.factors.create_totp(user.id, label).await?;
        let uri = secret.uri(&user.email);
        let qr_svg = qr_code::to_svg(&uri).ok_or_else(|| ApiError::internal("the URI is too long for a QR code"))?;
        Ok(Response::new(CreateTotpResponse { factor_id: id.to_string(), secret: secret.encode(), uri, qr_svg }))
    }

    async fn confirm_totp(
        &self,
        request: Request<ConfirmTotpRequest>,
    ) -> Result<Response<ConfirmTotpResponse>, Status> {
        let App { factors, sessions, address_limits, .. } = &*self.app;
        let (caller, event) = self.event(Kind::FactorAdded, &request).await?;
        let (id, code) = confirmation(request.get_ref())?;
        address_limits.check(RateLimitedAction::Login, &event.client)?;
        let event = event.with_detail("factor_id", &id);
        let (factor, recovery_codes) = factors.confirm_totp(&caller.user, (id, code), event, sessions).await?;
        Ok(Response::new(ConfirmTotpResponse { factor: Some(factor.into()), recovery_codes }))
    }

    async fn list_factors(
        &self,
        request: Request<ListFactorsRequest>,
    ) -> Result<Response<ListFactorsResponse>, Status> {
        let user_id = self.app.interactive_caller(&request).await?.user.id;
        let listed = factors::list(&self.app.db, user_id).await.map_err(ApiError::from)?;
        let available = factors::available(&self.app.db, user_id).await.map_err(ApiError::from)?;
        Ok(Response::new(ListFactorsResponse {
            factors: listed.into_iter().map(Into::into).collect(),
            unused_recovery_codes: i32::try_from(available.recovery_codes).unwrap_or(i32::MAX),
        }))
    }

    async fn update_factor(&self, request: Request<UpdateFactorRequest>) -> Result<Response<pb::Factor>, Status> {
        let App { db, clock, .. } = &*self.app;
        let (caller, event) = self.event(Kind::FactorUpdated, &request).await?;
        let (metadata, _, request) = request.into_parts();
        let FactorUpdate { id, label, repeated } = FactorUpdate::parse(&metadata, request)?;
        let ids = (caller.user.id, id);
        if !repeated.is_empty() {
            let current = factors::get(db, ids).await.map_err(ApiError::from)?.ok_or_else(error::factor_not_found)?;
            repeated.check(&pb::Factor::from(current))?;
        }
        let updated = match label {
            Some(label) => factors::rename(db, clock.now(), ids, label, event.with_detail("factor_id", &id)).await,
            None => factors::get(db, ids).await,
        };
        let factor = updated.map_err(ApiError::from)?.ok_or_else(error::factor_not_found)?;
        Ok(Response::new(factor.into()))
    }

    async fn delete_factor(
        &self,
        request: Request<DeleteFactorRequest>,
    ) -> Result<Response<DeleteFactorResponse>, Status> {
        let (caller, event) = self.event(Kind::FactorDeleted, &request).await?;
        let id = request::id("factor_id", &request.get_ref().factor_id)?;
        self.app.factors.delete(&caller.user, id, event.with_detail("factor_id", &id)).await?;
        Ok(Response::new(DeleteFactorResponse {}))
    }

    async fn regenerate_recovery_codes(
        &self,
        request: Request<RegenerateRecoveryCodesRequest>,
    ) -> Result<Response<RegenerateRecoveryCodesResponse>, Status> {
        let (caller, event) = self.event(Kind::RecoveryCodesRegenerated, &request).await?;
        let recovery_codes = self.app.factors.regenerate_recovery_codes(&caller.user, event).await?;
        Ok(Response::new(RegenerateRecoveryCodesResponse { recovery_codes }))
    }

    async fn begin_passkey(
        &self,
        request: Request<BeginPasskeyRequest>,
    ) -> Result<Response<BeginPasskeyResponse>, Status> {
        let user = self.app.fresh_unlimited_caller(&request).await?.user;
        Ok(Response::new(BeginPasskeyResponse { options: self.app.passkeys.begin(&user).await? }))
    }

    async fn finish_passkey(
        &self,
        request: Request<FinishPasskeyRequest>,
    ) -> Result<Response<FinishPasskeyResponse>, Status> {
        let (caller, event) = self.event(Kind::FactorAdded, &request).await?;
        let (response, label) = passkey_registration(request.into_inner())?;
        let (factor, recovery_codes) = self.app.passkeys.finish(&caller.user, &response, label, event).await?;
        Ok(Response::new(FinishPasskeyResponse { factor: Some(factor.into()), recovery_codes }))
    }
}

impl FactorService {
    /// Returns the caller, who can change factors and has proved one recently, and the event of the call.
    async fn event<T: Sync>(&self, kind: Kind, request: &Request<T>) -> Result<(ActiveCaller, Event), ApiError> {
        let caller = self.app.fresh_unlimited_caller(request).await?;
        let event = self.app.clients.event(kind, Actor::Owner, Some(caller.session_id), request).await?;
        Ok((caller, event))
    }
}
