//! Connections to a service behind the gateway, and the choice of one for each call.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use service_kit::{ops::config::LimitArgs, status::ApiError};
use tokio::time::sleep;
use tonic::body::Body;
use tower::{BoxError, Service};

use crate::{
    body,
    quota::{Client, LimitName, Permit, Quota},
    retry::{Repeat, RetryThrottle},
};

/// Maximum time to connect. The next call tries again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of connections for unary calls, and for streams.
const UNARY_CONNECTIONS: usize = 4;
const STREAM_CONNECTIONS: usize = 8;

/// Maximum number of concurrent calls on a connection. It bounds the unread data of a connection for streams.
const MAX_CALLS: usize = 128;

/// One client may use this fraction of all calls or streams.
const CLIENT_FRACTION: usize = 2;

/// The window of a connection. It is never exhausted: unary responses are read as they arrive, and the windows of
/// [`MAX_CALLS`] streams together are smaller. h2 (0.4.20) closes a connection with many small unread frames; it permits
/// more of them if this window is larger.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;

/// The window of a unary call, so that most responses need no round trip.
const UNARY_WINDOW_BYTES: u32 = 256 * 1024;

/// The window of a stream: the maximum of what is stored for a client that does not read. Even if all streams of a
/// connection are filled with messages without fields, h2 does not close it.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;

/// How many cancelled streams h2 remembers, whose frames can still arrive.
const MAX_CANCELLED_STREAMS: usize = 1024;

/// An HTTP/2 connection that is opened by the first call and reopened when it breaks.
pub type Connection = legacy::Client<HttpConnector, Body>;

/// Creates a connection for health checks.
#[must_use]
pub fn for_health_checks(limits: &LimitArgs) -> Connection {
    connection(limits, STREAM_WINDOW_BYTES)
}

/// Creates a connection. Keep-alive pings detect that it is broken.
fn connection(limits: &LimitArgs, stream_window_bytes: u32) -> Connection {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    legacy::Client::builder(TokioExecutor::new())
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
        .build(connector)
}

/// Several connections. Each call is made on the one with the fewest calls.
#[derive(Debug)]
pub struct Connections {
    all: Vec<Connection>,
    /// The number of calls on each connection.
    calls: Mutex<Vec<usize>>,
    quota: Arc<Quota>,
    retries: RetryThrottle,
}

impl Connections {
    /// Creates the connections for unary calls. Their responses must be read to the end as they arrive.
    #[must_use]
    pub fn for_unary_calls(limits: &LimitArgs) -> Arc<Self> {
        let name = LimitName { what: "calls", metric: "gateway_calls" };
        Self::new(name, limits, UNARY_CONNECTIONS, UNARY_WINDOW_BYTES)
    }

    /// Creates the connections for streams. A stream that is not read does not delay other streams.
    #[must_use]
    pub fn for_streams(limits: &LimitArgs) -> Arc<Self> {
        let name = LimitName { what: "streams", metric: "gateway_streams" };
        Self::new(name, limits, STREAM_CONNECTIONS, STREAM_WINDOW_BYTES)
    }

    fn new(name: LimitName, limits: &LimitArgs, count: usize, stream_window_bytes: u32) -> Arc<Self> {
        // The services have the same limit as the gateway, unless they are configured differently.
        let max_calls = count * usize::try_from(limits.max_streams).unwrap_or(usize::MAX).min(MAX_CALLS);
        Arc::new(Self {
            all: (0..count).map(|_| connection(limits, stream_window_bytes)).collect(),
            calls: Mutex::new(vec![0; count]),
            quota: Quota::new(name, max_calls, (max_calls / CLIENT_FRACTION).max(1)),
            retries: RetryThrottle::default(),
        })
    }

    /// Selects the connection for a call.
    ///
    /// # Errors
    /// `OVERLOADED` if the client or all clients together make too many calls at this time.
    pub fn acquire(self: &Arc<Self>, client: Client) -> Result<Lease, ApiError> {
        let permit = self.quota.acquire(client, 1)?;
        let mut calls = self.calls();
        let fewest = calls.iter().enumerate().min_by_key(|(_, calls)| **calls);
        let index = fewest.map(|(index, _)| index).unwrap_or_default();
        calls[index] += 1;
        drop(calls);
        Ok(Lease(Arc::new(Call { connections: Arc::clone(self), index, _permit: permit })))
    }

    // Never held across an await.
    fn calls(&self) -> MutexGuard<'_, Vec<usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call. The call ends when this value and the body of its response have been dropped.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Call>);

#[derive(Debug)]
struct Call {
    connections: Arc<Connections>,
    index: usize,
    _permit: Permit,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connections.calls()[self.index] -= 1;
    }
}

impl Lease {
    /// Sends a request once.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        self.0.connections.all[self.0.index].request(request).await
    }

    /// Sends a request, and again if that is permitted. Its body is one message, which is read to the end first.
    async fn send_repeatedly(&self, request: Request<Body>, repeat: Repeat) -> Result<Response<Incoming>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let throttle = &self.0.connections.retries;
        for attempts in 1.. {
            let error = match self.send(Request::from_parts(parts.clone(), Body::new(Full::from(body.clone())))).await {
                Ok(response) => {
                    throttle.record_success();
                    return Ok(response);
                }
                Err(error) => error,
            };
            match throttle.delay(&error, repeat, attempts) {
                Some(delay) => sleep(delay).await,
                None => return Err(error.into()),
            }
        }
        unreachable!("the number of attempts is limited")
    }
}

impl Service<Request<Body>> for Lease {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lease = self.clone();
        Box::pin(async move {
            let response = match request.extensions().get().copied() {
                Some(repeat) => lease.send_repeatedly(request, repeat).await?,
                None => lease.send(request).await?,
            };
            Ok(response.map(|body| body::with_guard(Body::new(body), lease)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_streams_of_a_connection_are_smaller_than_its_window_and_its_frame_budget() {
        let max_calls = u32::try_from(MAX_CALLS).expect("a small number");
        assert!(max_calls * STREAM_WINDOW_BYTES < CONNECTION_WINDOW_BYTES);
        // The smallest frame is the prefix of an empty message. h2 charges it what is missing to 256 bytes, and permits
        // half of the window of the connection.
        let prefix = 5;
        let frames = max_calls * (STREAM_WINDOW_BYTES / prefix);
        assert!(frames * (256 - prefix) < CONNECTION_WINDOW_BYTES / 2);
    }
}
