//! Determines the client of a call.

use std::{net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, header::USER_AGENT};
use service_kit::{
    auth::{credential::SERVICE_TOKEN_HEADER, personal_access_token::ClientAddresses, scope::Scope},
    clock::Clock,
    network::{FORWARDED_USER_AGENT, ProxyArgs},
    status::ApiError,
    tls::TlsInfo,
};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Request, transport::server::TcpConnectInfo};
use uuid::Uuid;

use crate::{
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        service_token::{self, ServiceTokenHash},
        text,
    },
    service_tokens::ServiceTokens,
};

/// Determines the clients of calls. Trusted proxies, and services with a valid token or certificate, may send the client's
/// address.
#[derive(Debug)]
pub struct ClientInfoResolver {
    clock: Clock,
    proxies: ProxyArgs,
    service_tokens: Arc<ServiceTokens>,
}

impl ClientInfoResolver {
    /// Creates a resolver.
    #[must_use]
    pub fn new(clock: Clock, proxies: ProxyArgs, service_tokens: Arc<ServiceTokens>) -> Self {
        Self { clock, proxies, service_tokens }
    }

    /// Returns the peer of the connection, or the client on whose behalf a trusted peer calls. Invalid service tokens
    /// are ignored, because anyone can send the header.
    ///
    /// # Errors
    /// SCOPE_MISSING if the service token does not permit this, or STORE_UNAVAILABLE if it cannot be checked.
    pub async fn resolve<T: Sync>(&self, request: &Request<T>) -> Result<ClientInfo, ApiError> {
        self.resolve_call(request.extensions(), request.metadata().as_ref()).await
    }

    async fn resolve_call(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<ClientInfo, ApiError> {
        let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let Some(peer) = peer.map(|peer| peer.ip()) else {
            return Ok(ClientInfo { address: None, user_agent: user_agent(headers, false) });
        };
        let token = headers.get(SERVICE_TOKEN_HEADER).and_then(|token| token.to_str().ok());
        let token = token.and_then(ServiceTokenHash::from_token);
        let is_service = match token {
            Some(token) if self.may_forward(&token).await? => true,
            _ => self.certificate_may_forward(extensions).await?,
        };
        let client = if is_service {
            self.proxies.client_of_trusted_peer(peer, headers)
        } else {
            self.proxies.client(peer, headers)
        };
        let user_agent = user_agent(headers, is_service || self.proxies.trusts(peer));
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

    /// Reports whether the caller has the certificate of a service that may forward the addresses of clients. The
    /// certificates of other services give no rights here, and do no harm.
    async fn certificate_may_forward(&self, extensions: &Extensions) -> Result<bool, ApiError> {
        let Some(peer) = extensions.get::<TlsInfo>().and_then(|tls| tls.peer.clone()) else {
            return Ok(false);
        };
        match self.service_tokens.certificate(&peer, Scope::ClientsForward).await {
            Err(error) if error.reason() == ErrorReason::ScopeMissing => Ok(false),
            found => Ok(found?.is_some()),
        }
    }

    /// Reports whether a service token is valid.
    async fn may_forward(&self, token: &ServiceTokenHash) -> Result<bool, ApiError> {
        match self.service_tokens.scopes(token).await? {
            Some(scopes) => service_token::require_scope(scopes, Scope::ClientsForward).map(|()| true),
            None => Ok(false),
        }
    }
}

impl ClientAddresses for ClientInfoResolver {
    fn address<'a>(
        &'a self,
        extensions: &'a Extensions,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, ApiError>> {
        Box::pin(async move { Ok(self.resolve_call(extensions, headers).await?.address) })
    }
}

/// Returns the user agent of the client. A trusted gateway sends it in a header of its own, which may be empty, because
/// `user-agent` is that of the gateway. Bytes that are not UTF-8 are replaced.
fn user_agent(headers: &HeaderMap, is_trusted_peer: bool) -> String {
    let forwarded = headers.get(FORWARDED_USER_AGENT).filter(|_| is_trusted_peer);
    let value = forwarded.or_else(|| headers.get(USER_AGENT)).map_or(&b""[..], |value| value.as_bytes());
    text::sanitize(&String::from_utf8_lossy(value))
}
