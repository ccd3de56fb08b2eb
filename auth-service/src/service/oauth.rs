//! `taskey.auth.v1.OAuthService`: tokens for the clients of OAuth 2.0.

use std::sync::Arc;

use service_kit::status::ApiError;
use taskey_proto::{
    auth::v1::{
        self as pb, AuthorizeDeviceRequest, AuthorizeDeviceResponse, IssueTokenRequest, IssueTokenResponse,
        RevokeTokenRequest, RevokeTokenResponse,
    },
    errors::v1::ErrorReason,
};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    oauth_request::{Grant, Revocation, parse_client_id},
    request,
};
use crate::{
    app::App,
    error,
    login::address_limits::RateLimitedAction,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
    },
    oauth::{
        client::{Client, ClientCredentials, Origin},
        device::DevicePoll,
        grants::user_tokens,
    },
    store::revocations::{RevocationReason, SessionSelector},
    verifier,
};

/// The implementation of the service.
pub struct OAuthService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::o_auth_service_server::OAuthService for OAuthService {
    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let oauth = &self.app.oauth;
        let origin = self.origin(&request).await?;
        let response = match Grant::parse(request.into_inner(), &oauth.audiences)? {
            Grant::Client { client, scope } => {
                oauth.client_token(&self.authenticate(&client, &origin).await?, &scope).await?
            }
            Grant::Device(poll) => self.poll(&poll, origin.client).await?,
            Grant::Refresh(token) => self.refresh(token, origin.client).await?,
            Grant::Exchange { client, request } => {
                let client = self.authenticate(&client, &origin).await?;
                oauth.exchange(&client, &request, origin.client).await?
            }
        };
        Ok(Response::new(response))
    }

    async fn authorize_device(
        &self,
        request: Request<AuthorizeDeviceRequest>,
    ) -> Result<Response<AuthorizeDeviceResponse>, Status> {
        let App { oauth, address_limits, clients, .. } = &*self.app;
        let client = clients.resolve(&request).await?;
        let AuthorizeDeviceRequest { client_id, scope } = request.into_inner();
        let client_id = parse_client_id(client_id)?;
        address_limits.check(RateLimitedAction::Login, &client)?;
        Ok(Response::new(oauth.authorize_device(client_id, &scope, &client).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let App { call_limit, sessions, clock, .. } = &*self.app;
        let origin = self.origin(&request).await?;
        if let Some(session_id) = self.session_to_revoke(Revocation::parse(request.into_inner())?, &origin).await? {
            call_limit.check(session_id)?;
            let event = Event::new(clock, Kind::Logout, Actor::Owner, Some(session_id), origin.client);
            sessions.revoke(SessionSelector::Session(session_id), RevocationReason::Requested, event).await?;
        }
        Ok(Response::new(RevokeTokenResponse {}))
    }
}

impl OAuthService {
    async fn origin<T: Sync>(&self, request: &Request<T>) -> Result<Origin, ApiError> {
        let client = self.app.clients.resolve(request).await?;
        Ok(Origin { client, certificate: verifier::certificate(request).cloned() })
    }

    /// Authenticates a client, and limits failures by the address of the client.
    async fn authenticate(&self, credentials: &ClientCredentials, origin: &Origin) -> Result<Client, ApiError> {
        let App { address_limits, oauth, .. } = &*self.app;
        address_limits.check_client_failures(&origin.client)?;
        let authenticated = oauth.authenticate(credentials, origin).await;
        if authenticated.as_ref().is_err_and(|error| error.reason() == ErrorReason::ClientInvalid) {
            address_limits.count_client_failure(&origin.client);
        }
        authenticated
    }

    /// Exchanges a refresh token of a user.
    async fn refresh(&self, token: String, client: ClientInfo) -> Result<IssueTokenResponse, ApiError> {
        let App { address_limits, issuer, sessions, .. } = &*self.app;
        let parsed = request::refresh_token(token);
        let parsed = parsed.and_then(|token| token.map(Zeroizing::new).ok_or_else(request::missing_refresh_token));
        let token = parsed.map_err(|error| error::oauth(error, "invalid_request"))?;
        address_limits.check(RateLimitedAction::Refresh, &client)?;
        let token = issuer.refresh_keys.open(&token).ok_or_else(error::refresh_token_invalid);
        let outcome = match token {
            Ok(token) => sessions.refresh(token, client).await,
            Err(error) => Err(error),
        };
        outcome.map(user_tokens).map_err(|error| {
            let is_invalid = [Code::Unauthenticated, Code::Aborted].contains(&error.code());
            let message = "the refresh token is not valid, or was used before";
            if is_invalid { error::grant_invalid(message) } else { error }
        })
    }

    /// Returns the tokens of a device, if a user has permitted it. Polls count like refreshes.
    async fn poll(&self, poll: &DevicePoll, client: ClientInfo) -> Result<IssueTokenResponse, ApiError> {
        let App { address_limits, oauth, sessions, .. } = &*self.app;
        let checked = address_limits.check(RateLimitedAction::Refresh, &client);
        checked.map_err(|error| error::oauth(error, "slow_down"))?;
        let approved = oauth.poll(poll).await?;
        sessions.start_on_device(approved, client).await.map(user_tokens)
    }

    /// Returns the session of a token, or `None` if the token is not valid.
    async fn session_to_revoke(&self, revocation: Revocation, origin: &Origin) -> Result<Option<Uuid>, ApiError> {
        let App { oauth, issuer, .. } = &*self.app;
        // The clients of users send an id that the server does not know, and do not authenticate.
        let authenticates = !revocation.client.secret.is_empty() || origin.certificate.is_some();
        let client = match Some(&revocation.client).filter(|_| authenticates) {
            Some(client) => Some(self.authenticate(client, origin).await?.account.id),
            None => None,
        };
        if let Some(token) = issuer.refresh_keys.open(&revocation.token) {
            return Ok(Some(token.session_id));
        }
        let claims = match oauth.authenticator.verify_expired(&revocation.token) {
            Err(error) if error.code() == Code::Unauthenticated => return Ok(None),
            claims => claims?,
        };
        if !claims.actors.is_empty() {
            return Err(error::token_not_revocable("the token ends with the session of the user"));
        }
        let is_other_client = client != Some(claims.user_id);
        if is_other_client && oauth.is_service_account(claims.user_id).await? {
            return Err(error::client_invalid());
        }
        Ok(Some(claims.session_id))
    }
}
