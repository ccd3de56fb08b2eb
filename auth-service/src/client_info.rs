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
    network::{FORWARDED_USER_AGENT, ProxyArgs},
    ops::secret_file::Key,
    status::ApiError,
};
use tonic::{Request, metadata::MetadataMap};
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
        let metadata = request.metadata();
        let Some(peer) = request.remote_addr().map(|peer| peer.ip()) else {
            return Ok(ClientInfo { address: None, user_agent: user_agent(metadata, false) });
        };
        let token = metadata.get(SERVICE_TOKEN_HEADER).and_then(|token| token.to_str().ok());
        let token = token.and_then(ServiceTokenHash::from_token);
        let is_service = match token {
            Some(token) => self.is_valid_token(token).await?,
            None => false,
        };
        let client = if is_service {
            self.proxies.client_of_trusted_peer(peer, metadata.as_ref())
        } else {
            self.proxies.client(peer, metadata.as_ref())
        };
        let user_agent = user_agent(metadata, is_service || self.proxies.trusts(peer));
        Ok(ClientInfo { address: Some(client.address), user_agent })
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

/// Returns the user agent of the client. A trusted gateway sends it in a header of its own, which may be empty, because
/// `user-agent` is that of the gateway. Bytes that are not UTF-8 are replaced.
fn user_agent(metadata: &MetadataMap, is_trusted_peer: bool) -> String {
    let forwarded = metadata.get(FORWARDED_USER_AGENT.as_str()).filter(|_| is_trusted_peer);
    let value = forwarded.or_else(|| metadata.get("user-agent")).map_or(&b""[..], |value| value.as_bytes());
    text::sanitize_user_agent(&String::from_utf8_lossy(value))
}
