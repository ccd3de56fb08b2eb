//! Connections to a service behind the gateway, and the choice of one for each call.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use service_kit::{status::ApiError, trace::CallSpan};
use tokio::time::sleep;
use tonic::{Code, body::Body};
use tower::{BoxError, Service};

use crate::{
    balancer::Balancer,
    body,
    connection::{Connection, ConnectionArgs, STREAM_WINDOW_BYTES, SendError, UNARY_WINDOW_BYTES},
    quota::{Client, LimitName, Permit, Quota},
    replica::Replica,
    retry::{Repeat, RetryThrottle},
};

/// Number of connections to a replica for unary calls, and for streams.
const UNARY_CONNECTIONS: usize = 4;
const STREAM_CONNECTIONS: usize = 8;

/// Maximum number of concurrent calls on a connection. It bounds the unread data of a connection for streams.
const MAX_CALLS: usize = 128;

/// One client may use this fraction of all calls or streams.
const CLIENT_FRACTION: usize = 2;

/// Several connections to each replica of a service. Each call is made to the replica with the fewest calls of those that
/// serve, on its connection with the fewest calls.
#[derive(Debug)]
pub struct Connections {
    replicas: Vec<(Arc<Replica>, Vec<Connection>)>,
    calls: Mutex<Balancer>,
    quota: Arc<Quota>,
    retries: RetryThrottle,
}

impl Connections {
    /// Creates the connections for unary calls. Their responses must be read to the end as they arrive.
    #[must_use]
    pub fn for_unary_calls(args: &ConnectionArgs, replicas: &[Arc<Replica>]) -> Arc<Self> {
        let name = LimitName { what: "calls", metric: "gateway_calls" };
        Self::new(name, args, replicas, UNARY_CONNECTIONS, UNARY_WINDOW_BYTES)
    }

    /// Creates the connections for streams. A stream that is not read does not delay other streams.
    #[must_use]
    pub fn for_streams(args: &ConnectionArgs, replicas: &[Arc<Replica>]) -> Arc<Self> {
        let name = LimitName { what: "streams", metric: "gateway_streams" };
        Self::new(name, args, replicas, STREAM_CONNECTIONS, STREAM_WINDOW_BYTES)
    }

    fn new(
        name: LimitName,
        args: &ConnectionArgs,
        replicas: &[Arc<Replica>],
        count: usize,
        stream_window_bytes: u32,
    ) -> Arc<Self> {
        // The services have the same limit as the gateway, unless they are configured differently.
        let max_per_connection = usize::try_from(args.limits.max_streams).unwrap_or(usize::MAX).min(MAX_CALLS);
        let max_calls = replicas.len() * count * max_per_connection;
        let connections =
            |replica: &Replica| (0..count).map(|_| Connection::new(args, replica, stream_window_bytes)).collect();
        Arc::new(Self {
            replicas: replicas.iter().map(|replica| (Arc::clone(replica), connections(replica))).collect(),
            calls: Mutex::new(Balancer::new(replicas.len(), count)),
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
        Ok(Lease(Arc::new(Call { slot: self.next_slot(), _permit: permit })))
    }

    fn next_slot(self: &Arc<Self>) -> Slot {
        let index = self.calls().begin(|replica| self.replicas[replica].0.serves());
        Slot { connections: Arc::clone(self), index }
    }

    // Never held across an await.
    fn calls(&self) -> MutexGuard<'_, Balancer> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call. The call ends when this value and the body of its response have been dropped.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Call>);

#[derive(Debug)]
struct Call {
    slot: Slot,
    _permit: Permit,
}

/// The place of a call on a connection, until it is dropped.
#[derive(Debug)]
struct Slot {
    connections: Arc<Connections>,
    /// The replica, and its connection.
    index: (usize, usize),
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.calls().end(self.index);
    }
}

impl Slot {
    fn connection(&self) -> &Connection {
        let (replica, connection) = self.index;
        &self.connections.replicas[replica].1[connection]
    }

    /// Sends a request once. If the replica cannot be reached, it gets no calls until a health check finds it serving.
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, SendError> {
        let mut span = CallSpan::client(&mut request);
        match self.connection().send(request).await {
            Ok(response) => Ok(span.until_end_of(response)),
            Err(error) => {
                span.end(Code::Unavailable);
                if error.is_connect() {
                    self.connections.replicas[self.index.0].0.set_serving(false);
                }
                Err(error)
            }
        }
    }
}

impl Lease {
    /// Sends a request, and again if that is permitted, then preferably to another replica. Its body is one message, which
    /// is read to the end first. Returns the slot beside the response, unless it is that of the lease.
    async fn send_repeatedly(
        &self,
        request: Request<Body>,
        repeat: Repeat,
    ) -> Result<(Response<Body>, Option<Slot>), BoxError> {
        let Slot { connections, .. } = &self.0.slot;
        let (parts, body) = request.into_parts();
        let (body, mut other) = (body.collect().await?.to_bytes(), None);
        for attempts in 1.. {
            let slot = other.as_ref().unwrap_or(&self.0.slot);
            let error = match slot.send(Request::from_parts(parts.clone(), Body::new(Full::from(body.clone())))).await {
                Ok(response) => {
                    connections.retries.record_success();
                    return Ok((response, other));
                }
                Err(error) => error,
            };
            match connections.retries.delay(&error, repeat, attempts) {
                Some(delay) => sleep(delay).await,
                None => return Err(error.into()),
            }
            other = Some(connections.next_slot());
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
            // A call within the process is neither refused nor lost.
            let may_repeat = matches!(lease.0.slot.connection(), Connection::Network(_));
            let (response, slot) = match request.extensions().get().copied().filter(|_| may_repeat) {
                Some(repeat) => lease.send_repeatedly(request, repeat).await?,
                None => (lease.0.slot.send(request).await?, None),
            };
            Ok(response.map(|body| body::with_guard(body, (lease, slot))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::CONNECTION_WINDOW_BYTES;

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
