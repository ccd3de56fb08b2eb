//! Token exchange (RFC 8693): a service that has received the access token of a user gets one with which it calls another
//! service on behalf of the user.

use std::time::Duration;

use service_kit::{
    auth::{
        actor::MAX_ACTORS,
        claims::AccessClaims,
        interceptor::scope_missing,
        scope::{Scope, Scopes},
    },
    status::ApiError,
};
use taskey_proto::auth::v1::IssueTokenResponse;
use tonic::Code;
use zeroize::Zeroizing;

use super::{
    client::Client,
    grants::{OAuth, requested_scopes},
};
use crate::{
    error,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
    },
    store::{audit, service_accounts, users},
};

/// The type of access tokens in requests and responses (RFC 8693, section 3).
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The scopes that a service can have on behalf of a user.
const DELEGATED_SCOPES: [Scope; 2] = [Scope::TasksRead, Scope::TasksWrite];

/// The exchanges of a service account in a session are recorded in the audit log at most once in this time.
const RECORDING_INTERVAL: Duration = Duration::from_secs(3600);

/// A request to exchange a token.
pub struct ExchangeRequest {
    /// The access token of the user.
    pub subject_token: Zeroizing<String>,
    /// The requested scopes, separated by spaces, or empty.
    pub scope: String,
    /// The audience of the new token.
    pub audience: String,
}

impl OAuth {
    /// Exchanges the access token of a user for one that permits at most as much, contains the client as the actor, has the
    /// requested audience, and expires no later. The session, and how and when the user has proved their identity, stay the
    /// same: services that require a recent proof require that of the user.
    ///
    /// # Errors
    /// SCOPE_MISSING, VALIDATION_FAILED if the token cannot be exchanged, SCOPE_INVALID, RATE_LIMITED, or CLIENT_INVALID if the
    /// service account was changed in the meantime.
    pub async fn exchange(
        &self,
        client: &Client,
        request: &ExchangeRequest,
        info: ClientInfo,
    ) -> Result<IssueTokenResponse, ApiError> {
        let account = &client.account;
        if !account.scopes.contains(Scope::ClientsForward) {
            return Err(scope_missing("service account", Scope::ClientsForward));
        }
        self.call_limit.check(account.id)?;
        let subject = self.verify_subject(&request.subject_token).await?;
        if subject.actors.iter().any(|actor| actor.id == account.id) {
            return Err(error::subject_token_invalid("this service account acts for the user already"));
        }
        if subject.actors.len() == MAX_ACTORS {
            return Err(error::subject_token_invalid("too many services act for the user one after another"));
        }
        let scopes = requested_scopes(&request.scope, delegated_scopes(account.scopes, subject.scopes))?;
        let now = self.clock.now();
        let expires_at = subject.expires_at.min(now + self.issuer.access_token_ttl);
        let actor = self.actor_sessions.actor(account.id, client.secret.clone(), expires_at).await?;
        let claims = AccessClaims {
            id: self.clock.new_id(),
            roles: Vec::new(),
            scopes: Some(scopes),
            issued_at: now,
            expires_at,
            actors: std::iter::once(actor).chain(subject.actors).collect(),
            ..subject
        };
        self.record_exchange(&claims, &request.audience, info).await?;
        let response = self.response(&claims, &request.audience)?;
        Ok(IssueTokenResponse { issued_token_type: Some(ACCESS_TOKEN_TYPE.to_owned()), ..response })
    }

    /// Verifies the access token of a user. Reads the sessions of the user and of the services that act on behalf of the user
    /// from the database, because every holder of a shared key can sign any claim, and service accounts have no user.
    async fn verify_subject(&self, token: &str) -> Result<AccessClaims, ApiError> {
        let invalid = || error::subject_token_invalid("is not a valid access token of a user");
        let claims = self
            .authenticator
            .verify(token)
            .map_err(|error| if error.code() == Code::Unauthenticated { invalid() } else { error })?;
        let now = self.clock.now();
        let user = users::by_active_session(&self.db, now, claims.user_id, claims.session_id, false).await?;
        // No leeway: the new token would have no lifetime.
        if !user.is_some_and(|user| user.permits(claims.scopes)) || claims.expires_at <= now {
            return Err(invalid());
        }
        let are_active = service_accounts::have_active_sessions(&self.db, now, &claims.actors).await?;
        if are_active { Ok(claims) } else { Err(invalid()) }
    }

    /// Adds an exchange to the audit log of the user, unless one of the same session and service account was added recently.
    async fn record_exchange(&self, claims: &AccessClaims, audience: &str, info: ClientInfo) -> Result<(), ApiError> {
        let (now, actor) = (claims.issued_at, claims.actors[0].id);
        let actors = claims.actors.iter().map(|actor| actor.id.to_string()).collect::<Vec<_>>().join(" ");
        tracing::debug!(user_id = %claims.user_id, session_id = %claims.session_id, actors, "exchanged a token");
        let key = (claims.session_id, actor);
        if self.recorded_exchanges.0.get(&key).is_some_and(|recorded| now < recorded + RECORDING_INTERVAL) {
            return Ok(());
        }
        let event = Event::new(&self.clock, Kind::TokenExchanged, Actor::Service(actor), Some(claims.session_id), info);
        let event = event.with_detail("actors", &actors).with_detail("scopes", &claims.scopes.unwrap_or_default());
        let event = event.with_detail("audience", &audience);
        audit::add(&self.db, now, claims.user_id, event).await?;
        self.recorded_exchanges.0.insert(key, now);
        Ok(())
    }
}

/// Returns the scopes that a service account can have on behalf of a user.
fn delegated_scopes(account: Scopes, subject: Option<Scopes>) -> Scopes {
    let is_permitted = |scope: &Scope| account.contains(*scope) && subject.is_none_or(|scopes| scopes.contains(*scope));
    DELEGATED_SCOPES.into_iter().filter(is_permitted).collect()
}
