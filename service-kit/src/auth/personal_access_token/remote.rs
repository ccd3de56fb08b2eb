//! Exchanges personal access tokens at auth-service, and determines the clients of a service behind a gateway.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap};
use taskey_proto::{
    auth::v1::{
        ExchangePersonalAccessTokenRequest, ExchangePersonalAccessTokenResponse,
        token_service_client::TokenServiceClient,
    },
    errors::v1::ErrorReason,
};
use tokio::time::timeout;
use tonic::{Code, Status, transport::server::TcpConnectInfo};

use super::{ClientAddresses, Exchange, Exchanged, MAX_AGE};
use crate::{
    auth::{
        claims::AccessClaims,
        credential::Credential,
        revocation::peer::{Peer, PeerChannel},
        scope::Scopes,
    },
    clock::{Clock, Timestamp},
    id,
    network::ProxyArgs,
    status::ApiError,
    tls::Dialer,
    trace::ServicePeers,
};

/// How long an exchange at one replica may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(1);

/// When to call again after no replica could exchange a token.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Calls auth-service.
#[derive(Debug)]
pub struct RemoteExchange {
    credential: Credential,
    channels: Vec<PeerChannel>,
    /// The index of the replica that is called first: the last one that responded.
    preferred: AtomicUsize,
    clock: Clock,
}

impl RemoteExchange {
    /// Creates channels to the peers, which connect when they are first used.
    #[must_use]
    pub fn new(credential: Credential, peers: &[Peer], dialer: &Dialer, clock: Clock) -> Self {
        let channels = peers.iter().map(|peer| peer.connect_lazily(dialer)).collect();
        Self { credential, channels, preferred: AtomicUsize::new(0), clock }
    }

    async fn call(
        &self,
        channel: PeerChannel,
        token: &str,
        client: Option<IpAddr>,
    ) -> anyhow::Result<Option<Exchanged>> {
        let client_address = client.map(|client| client.to_string()).unwrap_or_default();
        let request = ExchangePersonalAccessTokenRequest { token: token.to_owned(), client_address };
        let request = self.credential.sign(request).await?;
        let mut service = TokenServiceClient::new(channel);
        match timeout(EXCHANGE_TIMEOUT, service.exchange_personal_access_token(request)).await? {
            Ok(response) => parse(&response.into_inner(), self.clock.now()).map(Some),
            Err(status) if is_unknown(&status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }
}

/// Reports whether auth-service responded that the token is not valid.
fn is_unknown(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// Parses the response. Its times are those of another clock, so the claims are remembered for a duration.
fn parse(response: &ExchangePersonalAccessTokenResponse, now: Timestamp) -> anyhow::Result<Exchanged> {
    let parsed = parse_claims(response, now);
    let claims = parsed.ok_or_else(|| anyhow::anyhow!("auth-service returned invalid claims of a token"))?;
    let networks = response.networks.iter().map(|network| network.parse()).collect::<Result<_, _>>()?;
    let expires_at = response.expire_time.map_or(now, Timestamp::from);
    Ok(Exchanged { claims, networks, valid_for: expires_at.since(now).min(MAX_AGE) })
}

fn parse_claims(response: &ExchangePersonalAccessTokenResponse, now: Timestamp) -> Option<AccessClaims> {
    Some(AccessClaims {
        id: id::parse(&response.jti)?,
        user_id: id::parse(&response.sub)?,
        session_id: id::parse(&response.sid)?,
        roles: response.roles.clone(),
        scopes: Some(Scopes::from_claim(&response.scope)?),
        authentication: None,
        issued_at: now,
        expires_at: response.token_expire_time?.into(),
        actors: Vec::new(),
    })
}

impl Exchange for RemoteExchange {
    fn exchange<'a>(
        &'a self,
        token: &'a str,
        client: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Option<Exchanged>, ApiError>> {
        Box::pin(async move {
            let (count, first) = (self.channels.len(), self.preferred.load(Ordering::Relaxed));
            for index in (first..first + count).map(|index| index % count) {
                match self.call(self.channels[index].clone(), token, client).await {
                    Ok(exchanged) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(exchanged);
                    }
                    Err(error) => tracing::debug!(%error, "cannot exchange a personal access token"),
                }
            }
            let message = "personal access tokens cannot be verified at the moment";
            let error = ApiError::new(Code::Unavailable, ErrorReason::VerifierNotReady, message);
            Err(error.retry_after(RETRY_DELAY))
        })
    }
}

/// Determines clients by the trusted proxies, and by the gateway in this process, if there is one.
#[derive(Debug)]
pub struct ProxiedClients {
    proxies: ProxyArgs,
    gateway: Option<Arc<dyn ServicePeers>>,
}

impl ProxiedClients {
    /// Creates a resolver.
    #[must_use]
    pub fn new(proxies: ProxyArgs, gateway: Option<Arc<dyn ServicePeers>>) -> Self {
        Self { proxies, gateway }
    }
}

impl ClientAddresses for ProxiedClients {
    fn address<'a>(
        &'a self,
        extensions: &'a Extensions,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, ApiError>> {
        Box::pin(async move {
            let Some(peer) = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr) else {
                return Ok(None);
            };
            let is_gateway = match &self.gateway {
                Some(gateway) => gateway.have_service_token(headers).await,
                None => false,
            };
            let client = if is_gateway {
                self.proxies.client_of_trusted_peer(peer.ip(), headers)
            } else {
                self.proxies.client(peer.ip(), headers)
            };
            Ok(Some(client.address))
        })
    }
}
