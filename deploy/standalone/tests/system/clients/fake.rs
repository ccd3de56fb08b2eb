//! A gRPC server that returns what a scenario scripts, for answers that the real server does not give.

use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::CONTENT_TYPE,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Deserialize;
use serde_json::Value;
use taskey_proto::auth::v1::{
    WatchRevocationsResponse,
    watch_revocations_response::{Event, Heartbeat, SnapshotChunk},
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::interval,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How often a scripted feed of revocations sends a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// The number of sessions in a message of a long snapshot.
const SESSIONS_PER_CHUNK: usize = 10_000;

/// An unknown field of a newer version: number 5000, a string.
const UNKNOWN_FIELD: &[u8] = b"\xc2\xb8\x02\x05newer";

/// What a call returns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// The messages, in the JSON format of protobuf. A call that is not a stream has one.
    messages: Vec<Value>,
    /// Adds a field that the contract does not have to each message.
    unknown_field: bool,
    /// Before the last message, as many revoked sessions are sent.
    sessions: u64,
    /// After the messages, the stream stays open.
    open: bool,
    /// While the stream is open, messages of `TokenService.WatchRevocations` with a heartbeat are sent.
    heartbeats: bool,
    /// The status, instead of OK.
    error: Option<Error>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Error {
    code: String,
    #[serde(default)]
    reason: String,
    retry_after_ms: Option<u64>,
}

impl Error {
    fn status(&self) -> Status {
        let code = (0..17).map(Code::from_i32).find(|code| code_name(*code) == self.code).expect("a code");
        let mut details = ErrorDetails::new();
        if !self.reason.is_empty() {
            details.set_error_info(&self.reason, "taskey", HashMap::<String, String>::new());
        }
        if let Some(delay) = self.retry_after_ms {
            details.set_retry_info(Some(Duration::from_millis(delay)));
        }
        details.set_request_info("scripted", "");
        Status::with_error_details(code, "a scripted error", details)
    }
}

/// Returns the name of a code as in the documentation of gRPC.
pub fn code_name(code: Code) -> String {
    // `Debug` prints `NotFound`.
    let name = format!("{code:?}").replace("Ok", "OK");
    let upper = |(index, letter): (usize, char)| {
        let separator = if index > 0 && letter.is_uppercase() && name != "OK" { "_" } else { "" };
        format!("{separator}{}", letter.to_uppercase())
    };
    name.chars().enumerate().map(upper).collect()
}

#[derive(Default)]
struct Method {
    answers: Vec<Answer>,
    /// The index of the next answer.
    position: usize,
    calls: usize,
    /// The open streams.
    streams: Vec<mpsc::Sender<Frame<Bytes>>>,
}

/// The state of the server, by path: `/taskey.task.v1.TaskService/GetTask`.
type Methods = Arc<Mutex<HashMap<String, Method>>>;

/// A running server. Dropping it stops it.
pub struct Fake {
    pub address: SocketAddr,
    methods: Methods,
    running: AbortHandle,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the socket is bound");
        let methods = Methods::default();
        let handled = Arc::clone(&methods);
        let running =
            tokio::spawn(serve(listener, move |request| answer(request, Arc::clone(&handled)))).abort_handle();
        Self { address, methods, running }
    }

    /// Sets the answers of a method. The last one repeats.
    pub fn script(&self, method: &str, answers: Vec<Answer>) {
        let mut methods = self.methods.lock().expect("not poisoned");
        let method = methods.entry(path(method)).or_default();
        (method.answers, method.position) = (answers, 0);
    }

    /// Returns the number of calls of a method.
    pub fn calls(&self, method: &str) -> usize {
        self.methods.lock().expect("not poisoned").get(&path(method)).map_or(0, |method| method.calls)
    }

    /// Sends a message on all open streams of a method.
    pub async fn send(&self, method: &str, message: &Value) {
        self.send_bytes(method, frame(&encode(method, message))).await;
    }

    async fn send_bytes(&self, method: &str, frame: Bytes) {
        let streams =
            self.methods.lock().expect("not poisoned").get(&path(method)).map(|method| method.streams.clone());
        for stream in streams.unwrap_or_default() {
            // The client may have ended the stream.
            _ = stream.send(Frame::data(frame.clone())).await;
        }
    }

    /// Ends all open streams of a method with an error. Later ones get the next answer.
    pub async fn end(&self, method: &str, error: &Value) {
        let error = Error::deserialize(error).expect("an error");
        let streams = {
            let mut methods = self.methods.lock().expect("not poisoned");
            let method = methods.entry(path(method)).or_default();
            method.position += 1;
            mem::take(&mut method.streams)
        };
        for stream in streams {
            _ = stream.send(trailers(&error.status())).await;
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn path(method: &str) -> String {
    format!("/{method}")
}

/// Serves HTTP/2 until it is aborted.
pub async fn serve<F, R>(listener: TcpListener, handle: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<Body>, hyper::Error>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = service_fn(handle.clone());
        connections.spawn(async move {
            // The client may close the connection at any time.
            _ = Builder::new(TokioExecutor::new()).http2_only().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// Returns a gRPC response with these frames.
pub fn respond(mut frames: mpsc::Receiver<Frame<Bytes>>) -> Response<Body> {
    let frames = futures::stream::poll_fn(move |context| frames.poll_recv(context).map(|frame| frame.map(Ok)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().expect("a header"));
    response
}

async fn answer(request: Request<Incoming>, methods: Methods) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    request.into_body().collect().await?;
    let (sender, receiver) = mpsc::channel(64);
    let answer = {
        let mut methods = methods.lock().expect("not poisoned");
        let method = methods.entry(path.clone()).or_default();
        let answer = method.answers.get(method.position).or(method.answers.last()).cloned();
        method.calls += 1;
        // A client on a busy machine may open a stream more than once, so that only `end` leads to the next answer.
        if answer.as_ref().is_some_and(|answer| answer.open) {
            method.streams.push(sender.clone());
        } else {
            method.position += 1;
        }
        answer
    };
    tokio::spawn(send_answer(path[1..].to_owned(), answer, sender));
    Ok(respond(receiver))
}

async fn send_answer(method: String, answer: Option<Answer>, sender: mpsc::Sender<Frame<Bytes>>) {
    let Some(answer) = answer else {
        _ = sender.send(trailers(&Status::unimplemented("not scripted"))).await;
        return;
    };
    for (index, message) in answer.messages.iter().enumerate() {
        if answer.sessions > 0 && index + 1 == answer.messages.len() {
            send_sessions(&encode(&method, message), answer.sessions, &sender).await;
        }
        let mut message = encode(&method, message);
        if answer.unknown_field {
            message.extend_from_slice(UNKNOWN_FIELD);
        }
        _ = sender.send(Frame::data(frame(&message))).await;
    }
    if answer.open {
        if answer.heartbeats {
            send_heartbeats(&method, answer.messages.last(), &sender).await;
        }
        sender.closed().await;
    } else {
        let status = answer.error.map_or_else(|| Status::ok(""), |error| error.status());
        _ = sender.send(trailers(&status)).await;
    }
}

/// Sends chunks of a snapshot with this many sessions, and with the watch id, the epoch and the sequence number of a
/// message.
async fn send_sessions(message: &[u8], count: u64, sender: &mpsc::Sender<Frame<Bytes>>) {
    let template = WatchRevocationsResponse::decode(message).expect("a message of the feed");
    for first in (0..count).step_by(SESSIONS_PER_CHUNK) {
        let numbers = first..count.min(first + SESSIONS_PER_CHUNK as u64);
        let revoked_session_ids = numbers.map(|number| format!("01890a5d-ac96-774b-8000-{number:012x}")).collect();
        let event = Some(Event::SnapshotChunk(SnapshotChunk { revoked_session_ids }));
        let message = WatchRevocationsResponse { event, ..template.clone() };
        _ = sender.send(Frame::data(frame(&message.encode_to_vec()))).await;
    }
}

/// Sends heartbeats with the watch id, the epoch and the sequence number of the last message.
async fn send_heartbeats(method: &str, last: Option<&Value>, sender: &mpsc::Sender<Frame<Bytes>>) {
    let last = last.map(|message| encode(method, message)).unwrap_or_default();
    let mut message = WatchRevocationsResponse::decode(&last[..]).expect("a message of the feed");
    message.event = Some(Event::Heartbeat(Heartbeat {}));
    let frame = frame(&message.encode_to_vec());
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    loop {
        ticks.tick().await;
        if sender.send(Frame::data(frame.clone())).await.is_err() {
            return;
        }
    }
}

/// Encodes a response of a method from its JSON format.
fn encode(method: &str, message: &Value) -> Vec<u8> {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the descriptors are valid"));
    let (service, name) = method.split_once('/').expect("a service and a method");
    let service = POOL.get_service_by_name(service).expect("a service of the contract");
    let descriptor = service.methods().find(|method| method.name() == name).expect("a method of the contract");
    DynamicMessage::deserialize(descriptor.output(), message).expect("a response of the method").encode_to_vec()
}

/// Returns a message of the gRPC protocol, without compression.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// Returns the end of a gRPC response.
pub fn trailers(status: &Status) -> Frame<Bytes> {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).expect("valid headers");
    Frame::trailers(headers)
}
