//! A connection to a replica of a service, over the network or within the process.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use service_kit::{
    ops::config::LimitArgs,
    server::in_process::{InProcessChannel, NotServing},
    tls::Dialer,
};
use tonic::body::Body;
use tower::Service;

use crate::replica::{Address, Replica};

/// The window of a connection. It is never exhausted: unary responses are read as they arrive, and the windows of all
/// streams together are smaller. h2 (0.4.20) closes a connection with many small unread frames; it permits more of them if
/// this window is larger.
pub const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;

/// The window of a unary call, so that most responses need no round trip.
pub const UNARY_WINDOW_BYTES: u32 = 256 * 1024;

/// The window of a stream: the maximum of what is stored for a client that does not read. Even if all streams of a
/// connection are filled with messages without fields, h2 does not close it.
pub const STREAM_WINDOW_BYTES: u32 = 16 * 1024;

/// How many cancelled streams h2 remembers, whose frames can still arrive.
const MAX_CANCELLED_STREAMS: usize = 1024;

/// How connections are opened.
#[derive(Clone, Debug)]
pub struct ConnectionArgs {
    /// Opens the sockets.
    pub dialer: Dialer,
    /// The limits of the gateway.
    pub limits: LimitArgs,
}

/// A connection to a replica.
#[derive(Clone, Debug)]
pub enum Connection {
    /// An HTTP/2 connection that is opened by the first call and reopened when it breaks.
    Network(Arc<NetworkConnection>),
    /// A channel within the process.
    InProcess(InProcessChannel),
}

/// A connection over the network.
#[derive(Debug)]
pub struct NetworkConnection {
    /// Its pool has one connection.
    client: legacy::Client<Dialer, Body>,
    /// The URL of the replica.
    origin: Uri,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection could not be opened, or is broken.
    #[error(transparent)]
    Network(#[from] legacy::Error),
    /// The service in this process does not serve.
    #[error(transparent)]
    InProcess(#[from] NotServing),
}

impl SendError {
    /// Reports whether the request did not reach the replica, because it does not serve.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match self {
            Self::Network(error) => error.is_connect(),
            Self::InProcess(NotServing) => true,
        }
    }
}

impl Connection {
    /// Creates a connection to a replica. Over the network, keep-alive pings detect that it is broken.
    #[must_use]
    pub fn new(
        ConnectionArgs { dialer, limits }: &ConnectionArgs,
        replica: &Replica,
        stream_window_bytes: u32,
    ) -> Self {
        let origin = match replica.address() {
            Address::Url(url) => url.clone(),
            Address::InProcess(channel) => return Self::InProcess(channel.clone()),
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(None)
            .http2_initial_stream_window_size(stream_window_bytes)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(limits.keepalive_interval)
            .http2_keep_alive_timeout(limits.keepalive_timeout)
            .http2_keep_alive_while_idle(true)
            .http2_max_concurrent_reset_streams(MAX_CANCELLED_STREAMS)
            // h2 counts frames of streams that it has forgotten, and closes the connection after 1024 of them.
            .http2_max_local_error_reset_streams(None)
            .build(dialer.clone());
        Self::Network(Arc::new(NetworkConnection { client, origin }))
    }

    /// Creates a connection for health checks.
    #[must_use]
    pub fn for_health_checks(args: &ConnectionArgs, replica: &Replica) -> Self {
        Self::new(args, replica, STREAM_WINDOW_BYTES)
    }

    /// Sends a request, whatever the origin in its URI.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, SendError> {
        match self {
            Self::Network(connection) => {
                *request.uri_mut() = with_origin(&connection.origin, request.uri());
                Ok(connection.client.request(request).await?.map(Body::new))
            }
            Self::InProcess(channel) => Ok(channel.clone().call(request).await?),
        }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<Response<Body>, SendError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move { connection.send(request).await })
    }
}

/// Returns the URI at this origin with the path and the query of `uri`.
fn with_origin(origin: &Uri, uri: &Uri) -> Uri {
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = uri.path_and_query().cloned().or(parts.path_and_query);
    Uri::from_parts(parts).unwrap_or_else(|_| origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_has_the_origin_of_the_replica() {
        let origin = Uri::from_static("https://task.example.org:50052");
        for (uri, expected) in [
            ("/a.B/C?d", "https://task.example.org:50052/a.B/C?d"),
            ("http://gateway/a.B/C", "https://task.example.org:50052/a.B/C"),
        ] {
            assert_eq!(with_origin(&origin, &uri.parse().expect("a URI")), expected);
        }
    }
}
