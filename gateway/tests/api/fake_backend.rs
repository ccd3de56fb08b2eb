//! A gRPC server without message types, whose replies are set by a test.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message;
use service_kit::server::connection::{self, Listener, Protocol};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use crate::support::config;

/// A hanging test fails after this timeout, which is longer than any step takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The reply of a backend to a call.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Returns the request message.
    Echo,
    /// Returns this message.
    Message(Vec<u8>),
    /// Returns this message as the stored response of a repeated request.
    Replay(Vec<u8>),
    /// Returns the events of an [`EventSender`].
    Stream(EventReceiver),
    /// Fails with this status.
    Status(Status),
    /// Never replies.
    Never,
    /// Returns the reply that this function chooses.
    Function(Arc<dyn Fn(&Call) -> Reply + Send + Sync>),
}

impl Reply {
    pub(crate) fn message(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec())
    }

    pub(crate) fn from_fn(choose: impl Fn(&Call) -> Self + Send + Sync + 'static) -> Self {
        Self::Function(Arc::new(choose))
    }

    /// Creates a stream for one call, and its sender.
    pub(crate) fn stream() -> (EventSender, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (EventSender(sender), Self::Stream(EventReceiver(Arc::new(Mutex::new(Some(receiver))))))
    }
}

/// A message of a stream, or the status that ends it.
type Event = Result<Vec<u8>, Status>;

/// The receiver of a stream, until a call takes it.
#[derive(Clone)]
pub(crate) struct EventReceiver(Arc<Mutex<Option<mpsc::Receiver<Event>>>>);

/// The sender of a stream. The stream ends when it is dropped.
pub(crate) struct EventSender(mpsc::Sender<Event>);

impl EventSender {
    pub(crate) async fn send(&self, message: &impl Message) {
        self.0.send(Ok(message.encode_to_vec())).await.expect("the stream has a reader");
    }

    /// Reports whether the call was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }

    /// Ends the stream with a status.
    pub(crate) async fn fail(self, status: impl Into<Status>) {
        self.0.send(Err(status.into())).await.expect("the stream has a reader");
    }

    /// Waits until the call is cancelled.
    pub(crate) async fn cancelled(self) {
        timeout(TIMEOUT, self.0.closed()).await.expect("the call is cancelled");
    }
}

/// A call that a backend received.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) rpc: String,
    pub(crate) metadata: HeaderMap,
    /// The message with its five-byte gRPC prefix.
    body: Bytes,
}

impl Call {
    /// Returns all values of a metadata entry.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub(crate) fn message<M: Message + Default>(&self) -> M {
        M::decode(&self.body[5..]).unwrap()
    }

    /// Returns the messages of a stream of requests.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let (mut rest, mut messages) = (&self.body[..], Vec::new());
        while let Some((&[_, length @ ..], after)) = rest.split_first_chunk::<5>() {
            let (message, after) = after.split_at(u32::from_be_bytes(length) as usize);
            messages.push(M::decode(message).unwrap());
            rest = after;
        }
        messages
    }
}

pub(crate) struct FakeBackend {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    health_checks: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Drop for FakeBackend {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl FakeBackend {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_at(reply, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(reply: Reply, address: &str) -> Self {
        Self::start_on(TcpListener::bind(address).await.unwrap().into(), reply, None)
    }

    /// Starts a backend whose health checks return this status, or `UNIMPLEMENTED`.
    pub(crate) fn start_on(listener: Listener, reply: Reply, health: Option<ServingStatus>) -> Self {
        let address = listener.local_addr().unwrap();
        let (calls, shutdown) = (Arc::<Mutex<Vec<Call>>>::default(), CancellationToken::new());
        let health_checks = Arc::<AtomicUsize>::default();
        let (call_log, health_check_count, server_shutdown) =
            (Arc::clone(&calls), Arc::clone(&health_checks), shutdown.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (call_log, reply) = (Arc::clone(&call_log), reply.clone());
            let health_check_count = Arc::clone(&health_check_count);
            async move {
                let (parts, body) = request.into_parts();
                // A call whose client disconnected before the end of the request is not recorded.
                let Ok(body) = body.collect().await else { return Ok(Status::cancelled("").into_http()) };
                let call = Call { rpc: parts.uri.path().to_owned(), metadata: parts.headers, body: body.to_bytes() };
                if call.rpc.starts_with("/grpc.health.v1.") {
                    health_check_count.fetch_add(1, Ordering::Relaxed);
                    return Ok(respond_to_health_check(&reply, health).await);
                }
                call_log.lock().unwrap().push(call.clone());
                Ok::<_, Infallible>(respond(reply, call).await)
            }
        });
        tokio::spawn(async move {
            let limits = config(&[]).limits;
            connection::serve("fake", listener, Protocol::Http2, &limits, service, server_shutdown).await
        });
        Self { address, calls, health_checks, shutdown }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the only call.
    pub(crate) fn call(&self) -> Call {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns the number of health checks.
    pub(crate) fn health_checks(&self) -> usize {
        self.health_checks.load(Ordering::Relaxed)
    }

    pub(crate) fn was_called(&self) -> bool {
        !self.calls().is_empty()
    }
}

/// The gateway polls the health of its services. These calls are only counted.
async fn respond_to_health_check(reply: &Reply, health: Option<ServingStatus>) -> Response<Body> {
    match (reply, health) {
        (_, Some(status)) => {
            let message = HealthCheckResponse { status: status.into() }.encode_to_vec();
            grpc_response(stream::iter([Ok(message)]))
        }
        (Reply::Never, None) => std::future::pending().await,
        (_, None) => Status::unimplemented("no health checks").into_http(),
    }
}

async fn respond(reply: Reply, call: Call) -> Response<Body> {
    match reply {
        Reply::Echo => grpc_response(stream::iter([Ok(call.body[5..].to_vec())])),
        Reply::Message(message) => grpc_response(stream::iter([Ok(message)])),
        Reply::Replay(message) => {
            let mut response = grpc_response(stream::iter([Ok(message)]));
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
            response
        }
        Reply::Stream(receiver) => {
            let receiver = receiver.0.lock().unwrap().take().expect("the stream is used by one call");
            grpc_response(ReceiverStream::new(receiver))
        }
        Reply::Status(status) => status.into_http(),
        Reply::Never => std::future::pending().await,
        Reply::Function(choose) => Box::pin(respond(choose(&call), call)).await,
    }
}

fn grpc_response(events: impl Stream<Item = Event> + Send + 'static) -> Response<Body> {
    let end = stream::iter([Frame::trailers(trailers(&Status::new(Code::Ok, "")))]);
    let frames = events.map(|event| match event {
        Ok(message) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            Frame::data(Bytes::from([&[0], &length[..], &message].concat()))
        }
        Err(status) => Frame::trailers(trailers(&status)),
    });
    let body = Body::new(StreamBody::new(frames.chain(end).map(Ok::<_, Infallible>)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    trailers
}
