//! A gRPC server that knows no types and does what a test tells it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use prost::Message;
use service_kit::server::connection::{self, Protocol};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use crate::support::config;

/// Longer than anything may take, so that what hangs fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What a backend does with a call.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers the request message.
    Echo,
    /// Answers this message.
    Message(Vec<u8>),
    /// Answers this message, as one that was given before.
    Replay(Vec<u8>),
    /// Answers what a [`Feeder`] gives.
    Stream(Feed),
    /// Answers this status.
    Refuse(Status),
    /// Never answers.
    Nothing,
    /// Does what this says of the call.
    By(Arc<dyn Fn(&Call) -> Reply + Send + Sync>),
}

impl Reply {
    pub(crate) fn message(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec())
    }

    pub(crate) fn by(choose: impl Fn(&Call) -> Self + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(choose))
    }

    /// A stream for one call, and what feeds it.
    pub(crate) fn stream() -> (Feeder, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (Feeder(sender), Self::Stream(Feed(Arc::new(Mutex::new(Some(receiver))))))
    }
}

/// A message of a stream, or how it ends.
type Event = Result<Vec<u8>, Status>;

/// What is still to come of a stream.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Mutex<Option<mpsc::Receiver<Event>>>>);

/// Feeds a stream, which ends when this is dropped.
pub(crate) struct Feeder(mpsc::Sender<Event>);

impl Feeder {
    pub(crate) async fn send(&self, message: &impl Message) {
        self.0.send(Ok(message.encode_to_vec())).await.expect("somebody reads the stream");
    }

    /// Ends the stream with a status.
    pub(crate) async fn refuse(self, status: impl Into<Status>) {
        self.0.send(Err(status.into())).await.expect("somebody reads the stream");
    }

    /// Waits until the call has been cancelled.
    pub(crate) async fn cancelled(self) {
        timeout(LIMIT, self.0.closed()).await.expect("the call is cancelled");
    }
}

/// A call as a backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) rpc: String,
    pub(crate) metadata: HeaderMap,
    /// Five bytes, and the message.
    body: Bytes,
}

impl Call {
    /// All values of a metadata entry.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub(crate) fn message<M: Message + Default>(&self) -> M {
        M::decode(&self.body[5..]).unwrap()
    }
}

pub(crate) struct FakeBackend {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
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
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, shutdown) = (Arc::<Mutex<Vec<Call>>>::default(), CancellationToken::new());
        let (log, stop) = (Arc::clone(&calls), shutdown.clone());
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (log, reply) = (Arc::clone(&log), reply.clone());
            async move {
                let (parts, body) = request.into_parts();
                // Whoever has gone before the end has made no call.
                let Ok(body) = body.collect().await else { return Ok(Status::cancelled("").into_http()) };
                let call = Call { rpc: parts.uri.path().to_owned(), metadata: parts.headers, body: body.to_bytes() };
                log.lock().unwrap().push(call.clone());
                Ok::<_, Infallible>(answer(reply, call).await)
            }
        });
        tokio::spawn(async move {
            connection::serve("fake", listener, Protocol::Http2, &config(&[]).limits, service, stop).await
        });
        Self { address, calls, shutdown }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The only call that came.
    pub(crate) fn call(&self) -> Call {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn was_called(&self) -> bool {
        !self.calls().is_empty()
    }
}

async fn answer(reply: Reply, call: Call) -> Response<Body> {
    match reply {
        Reply::Echo => respond(stream::iter([Ok(call.body[5..].to_vec())])),
        Reply::Message(message) => respond(stream::iter([Ok(message)])),
        Reply::Replay(message) => {
            let mut response = respond(stream::iter([Ok(message)]));
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
            response
        }
        Reply::Stream(feed) => {
            respond(ReceiverStream::new(feed.0.lock().unwrap().take().expect("a stream is asked for once")))
        }
        Reply::Refuse(status) => status.into_http(),
        Reply::Nothing => std::future::pending().await,
        Reply::By(choose) => Box::pin(answer(choose(&call), call)).await,
    }
}

fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response<Body> {
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
