//! Calls between the servers of one process, without a socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Extensions, Request, Response, Version};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower::Service;

use super::call::panic_text;
use crate::status::ApiError;

/// The peer of all calls. Its port is not used by any socket.
pub(super) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The server of a channel is not open, or is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server in this process does not serve")]
pub struct NotServing;

type Handler = dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, NotServing>> + Send + Sync;

/// A channel to a server in this process. Its calls pass through the same layers as those of other clients on this machine,
/// and are cancelled when their futures or response bodies are dropped. Clones call the same server.
///
/// Pass the channel to [`Listener::with_in_process`](super::connection::Listener::with_in_process). Before the server
/// serves, and after its shutdown, calls fail with [`NotServing`].
#[derive(Clone, Default)]
pub struct InProcessChannel(Arc<RwLock<Option<Arc<Handler>>>>);

impl fmt::Debug for InProcessChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessChannel").field("serves", &self.handler().is_some()).finish()
    }
}

impl InProcessChannel {
    /// Passes calls to `respond` until the returned value is dropped.
    pub(super) fn open<F>(&self, respond: impl Fn(Request<Body>) -> F + Send + Sync + 'static) -> InProcessServer
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let calls = TaskTracker::new();
        let tracker = calls.clone();
        let handler = move |request| {
            let (call, response) = (tracker.token(), respond(receive(request)));
            let response = async move { Ok(response.await.map(|body| ResponseBody::wrap(body, call))) };
            Box::pin(response) as BoxFuture<'static, _>
        };
        self.set(Some(Arc::new(handler)));
        InProcessServer { channel: self.clone(), calls }
    }

    // The lock is never held across an await.
    fn handler(&self) -> Option<Arc<Handler>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, handler: Option<Arc<Handler>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }
}

impl Service<Request<Body>> for InProcessChannel {
    type Response = Response<Body>;
    type Error = NotServing;
    type Future = BoxFuture<'static, Result<Response<Body>, NotServing>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotServing>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.handler() {
            Some(handler) => handler(request),
            None => Box::pin(std::future::ready(Err(NotServing))),
        }
    }
}

/// Prepares a request as if it had arrived on a connection from this machine. Its extensions may describe the client of
/// the caller, whose certificate gives no rights here.
fn receive(mut request: Request<Body>) -> Request<Body> {
    *request.version_mut() = Version::HTTP_2;
    *request.extensions_mut() = Extensions::new();
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(PEER) });
    request
}

/// The server of a channel.
pub(super) struct InProcessServer {
    channel: InProcessChannel,
    calls: TaskTracker,
}

impl InProcessServer {
    /// Refuses new calls, and waits for those in progress.
    pub(super) async fn drain(self) {
        self.channel.set(None);
        self.calls.close();
        self.calls.wait().await;
    }
}

impl Drop for InProcessServer {
    fn drop(&mut self) {
        self.channel.set(None);
    }
}

/// The body of a response. A panic in it ends this response; the caller may poll it in the task of a connection, on
/// which others have calls.
struct ResponseBody {
    /// `None` after a panic.
    body: Option<Body>,
    _call: TaskTrackerToken,
}

impl ResponseBody {
    fn wrap(body: Body, call: TaskTrackerToken) -> Body {
        if body.is_end_stream() { body } else { Body::new(Self { body: Some(body), _call: call }) }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))).unwrap_or_else(|panic| {
            self.body = None;
            Poll::Ready(Some(Err(ApiError::internal(panic_text(&*panic)).into())))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
