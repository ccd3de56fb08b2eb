//! Determines the client of a call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use service_kit::{
    auth::credential::{SERVICE_TOKEN_HEADER, service_token},
    clock::Clock,
    db::Db,
    network::ProxyArgs,
    ops::secret_file::Key,
    status::ApiError,
};
use tonic::Request;
use uuid::Uuid;

use crate::{
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        service_token::ServiceTokenHash,
        text,
    },
    store::service_tokens,
};

/// The headers in which a proxy sends the client's address and user agent.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_USER_AGENT: &str = "x-forwarded-user-agent";

/// How long a service token is trusted before it is checked again.
const TRUST_PERIOD: Duration = Duration::from_secs(2);

/// Determines the clients of calls. Trusted proxies and services with a valid token may send the client's address.
#[derive(Debug)]
pub struct ClientInfoResolver {
    db: Db,
    clock: Clock,
    proxies: ProxyArgs,
    /// The token of the gateway in this process, if there is one.
    gateway_token: Option<ServiceTokenHash>,
    /// Valid tokens and when they were checked. Only issued tokens are stored, so the map stays small.
    valid_tokens: Mutex<HashMap<ServiceTokenHash, Duration>>,
}

impl ClientInfoResolver {
    /// Creates a resolver. `gateway` is the key of the service token of the gateway, if it runs in this process.
    #[must_use]
    pub fn new(db: Db, clock: Clock, proxies: ProxyArgs, gateway: Option<&Key>) -> Self {
        let gateway_token = gateway.and_then(|key| ServiceTokenHash::from_token(&service_token(key)));
        Self { db, clock, proxies, gateway_token, valid_tokens: Mutex::default() }
    }

    /// Returns the peer of the connection, or the client on whose behalf a trusted peer calls.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE if a service token cannot be checked.
    pub async fn resolve<T: Sync>(&self, request: &Request<T>) -> Result<ClientInfo, ApiError> {
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let user_agent = || header("user-agent").unwrap_or_default();
        let Some(peer) = request.remote_addr().map(|peer| peer.ip().to_canonical()) else {
            return Ok(ClientInfo { address: None, user_agent: text::sanitize_user_agent(user_agent()) });
        };
        let token = header(SERVICE_TOKEN_HEADER).and_then(ServiceTokenHash::from_token);
        let is_service = match token {
            Some(token) => self.is_valid_token(token).await?,
            None => false,
        };
        let user_agent = header(FORWARDED_USER_AGENT).filter(|_| is_service).unwrap_or_else(user_agent);
        let forwarded_for = request.metadata().get_all(FORWARDED_FOR).into_iter();
        let forwarded_for: Vec<_> = forwarded_for.filter_map(|value| value.to_str().ok()).collect();
        let address = if is_service {
            forwarded_for.last().and_then(|address| address.parse().ok()).unwrap_or(peer)
        } else {
            self.proxies.client(peer, forwarded_for.into_iter())
        };
        Ok(ClientInfo { address: Some(address.to_canonical()), user_agent: text::sanitize_user_agent(user_agent) })
    }

    /// Creates an event with the client of a call.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub async fn event<T: Sync>(
        &self,
        kind: Kind,
        actor: Actor,
        session_id: Option<Uuid>,
        request: &Request<T>,
    ) -> Result<Event, ApiError> {
        Ok(Event::new(&self.clock, kind, actor, session_id, self.resolve(request).await?))
    }

    async fn is_valid_token(&self, token: ServiceTokenHash) -> Result<bool, ApiError> {
        let now = self.clock.uptime();
        let is_recent = |checked_at: &Duration| now.saturating_sub(*checked_at) < TRUST_PERIOD;
        if self.gateway_token.as_ref() == Some(&token) || self.valid_tokens().get(&token).is_some_and(is_recent) {
            return Ok(true);
        }
        let is_valid = service_tokens::service_name(&self.db, &token).await?.is_some();
        if is_valid {
            self.valid_tokens().insert(token, now);
        } else {
            self.valid_tokens().remove(&token);
        }
        Ok(is_valid)
    }

    // Never held across an await.
    fn valid_tokens(&self) -> std::sync::MutexGuard<'_, HashMap<ServiceTokenHash, Duration>> {
        self.valid_tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
