//! The servers from which revocations are received.

use std::{
    fmt,
    task::{Context, Poll},
};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Request, Response};
use tonic::{
    body::Body,
    transport::{self, Channel, Endpoint},
};
use tower::{BoxError, Service};

use crate::{server::in_process::InProcessChannel, tls::Dialer};

/// A replica of auth-service.
#[derive(Clone, Debug)]
pub enum Peer {
    /// It is called over the network.
    Network(Box<Endpoint>),
    /// It runs in this process.
    InProcess(InProcessChannel),
}

impl From<Endpoint> for Peer {
    fn from(endpoint: Endpoint) -> Self {
        Self::Network(Box::new(endpoint))
    }
}

/// The URL of the peer, or a text that says that it has none.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(endpoint) => endpoint.uri().fmt(f),
            Self::InProcess(_) => f.write_str("this process"),
        }
    }
}

impl Peer {
    /// Returns a channel that connects when it is first used.
    pub(in crate::auth) fn connect_lazily(&self, dialer: &Dialer) -> PeerChannel {
        match self {
            Self::Network(endpoint) => PeerChannel::Network(endpoint.connect_with_connector_lazy(dialer.clone())),
            Self::InProcess(channel) => PeerChannel::InProcess(channel.clone()),
        }
    }

    pub(super) async fn connect(&self, dialer: &Dialer) -> Result<PeerChannel, transport::Error> {
        Ok(match self {
            Self::Network(endpoint) => PeerChannel::Network(endpoint.connect_with_connector(dialer.clone()).await?),
            Self::InProcess(channel) => PeerChannel::InProcess(channel.clone()),
        })
    }
}

/// A channel to a peer.
#[derive(Clone, Debug)]
pub(in crate::auth) enum PeerChannel {
    Network(Channel),
    InProcess(InProcessChannel),
}

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Network(channel) => channel.poll_ready(cx).map_err(Into::into),
            Self::InProcess(channel) => channel.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Network(channel) => channel.call(request).err_into().boxed(),
            Self::InProcess(channel) => channel.call(request).err_into().boxed(),
        }
    }
}
