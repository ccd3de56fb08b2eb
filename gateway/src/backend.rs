//! The services behind the gateway: how they are reached, and one unary call of any of their methods.

use std::{
    error::Error,
    iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, uri::PathAndQuery};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use service_kit::status::Refusal;
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::Instant;
use tonic::{
    Code, Extensions, Request, Response, Status, Streaming, TimeoutExpired,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use crate::headers::Forwarding;

/// How long it may take to connect. The next call tries again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// When the caller should try again while a backend is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the log and the caller read where a service did not say what is wrong.
const UNEXPLAINED: &str = "the service behind the gateway refused the call without saying why";

/// A service behind the gateway.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it is called in the answer of `/readyz`.
    pub name: &'static str,
    /// The package whose gRPC services it serves, with those below it.
    pub package: &'static str,
    /// The connection; it is made at the first call, and again whenever it has broken.
    pub channel: Channel,
    /// Those for streams, whose slow readers must not hold up anybody's calls.
    pub streams: Streams,
    /// What it is told of who calls, if it is.
    pub forwarding: Option<Arc<Forwarding>>,
    /// The largest response that is taken.
    pub max_response_bytes: usize,
}

impl Backend {
    /// Whether it serves the gRPC service of this full name.
    #[must_use]
    pub fn serves(&self, service: &str) -> bool {
        service.strip_prefix(self.package).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Calls an RPC, whose response is an `output`.
    ///
    /// # Errors
    /// What the service answered, made complete if it gave no reason; `BACKEND_UNAVAILABLE` if it cannot be reached.
    pub async fn call(
        &self,
        rpc: &PathAndQuery,
        output: &MessageDescriptor,
        message: DynamicMessage,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Result<Response<DynamicMessage>, Status> {
        let mut grpc = self.ready(self.channel.clone()).await?;
        let answer =
            grpc.unary(with(message, metadata, deadline), rpc.clone(), DynamicCodec { output: output.clone() }).await;
        answer.map_err(|status| complete(self.name, status, deadline))
    }

    /// Calls an RPC that answers with a stream. The deadline is that of its beginning.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn stream(
        &self,
        rpc: &PathAndQuery,
        output: &MessageDescriptor,
        message: DynamicMessage,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let mut grpc = self.ready(self.streams.next()).await?;
        let answer = grpc
            .server_streaming(with(message, metadata, deadline), rpc.clone(), DynamicCodec { output: output.clone() })
            .await;
        answer.map(Response::into_inner).map_err(|status| complete(self.name, status, deadline))
    }

    async fn ready(&self, channel: Channel) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.max_response_bytes);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => Err(unreachable(self.name, &error)),
        }
    }
}

fn with(message: DynamicMessage, metadata: HeaderMap, deadline: Instant) -> Request<DynamicMessage> {
    let mut request = Request::from_parts(MetadataMap::from_headers(metadata), Extensions::new(), message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// Several connections, each of which takes as many streams as the service lets it, by turns.
#[derive(Clone, Debug)]
pub struct Streams {
    channels: Arc<[Channel]>,
    turn: Arc<AtomicUsize>,
}

/// How many connections for streams there are to a backend.
const STREAM_CONNECTIONS: usize = 8;

impl Streams {
    /// Connections that are made when they are first needed.
    #[must_use]
    pub fn new(connect: impl Fn() -> Channel) -> Self {
        Self { channels: (0..STREAM_CONNECTIONS).map(|_| connect()).collect(), turn: Arc::default() }
    }

    /// The one whose turn it is.
    #[must_use]
    pub fn next(&self) -> Channel {
        self.channels[self.turn.fetch_add(1, Ordering::Relaxed) % self.channels.len()].clone()
    }
}

/// A connection that is made when it is first needed, and pinged, so that a dead one is noticed.
#[must_use]
pub fn connect(endpoint: &Endpoint, keepalive_interval: Duration, keepalive_timeout: Duration) -> Channel {
    endpoint
        .clone()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(keepalive_interval)
        .keep_alive_timeout(keepalive_timeout)
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// Gives a status that came without a reason the one that it must have. Its text may come from tonic or from a proxy,
/// so it goes to the log alone.
#[must_use]
pub fn complete(backend: &str, status: Status, deadline: Instant) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    // tonic minds the deadline too, and may be a moment ahead of us.
    let timed_out = causes(&status).any(<dyn Error>::is::<TimeoutExpired>);
    if timed_out || status.code() == Code::DeadlineExceeded || deadline <= Instant::now() {
        return deadline_exceeded().into();
    }
    if status.source().is_some() || status.code() == Code::Unavailable {
        return unreachable(backend, &status);
    }
    tracing::error!(backend, code = ?status.code(), error = status.message(), "a status without a reason");
    match status.code() {
        // tonic says the first two where a response is too large or cannot be read, which is no fault of the caller.
        Code::OutOfRange | Code::Internal | Code::Ok => Refusal::internal(UNEXPLAINED).into(),
        code => Refusal::new(code, ErrorReason::Internal, UNEXPLAINED).into(),
    }
}

/// The refusal of a call whose deadline has passed.
#[must_use]
pub fn deadline_exceeded() -> Refusal {
    let message = "the deadline has passed; the call may have taken effect";
    Refusal::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message)
}

fn unreachable(backend: &str, error: &dyn Error) -> Status {
    let cause = causes(error).last().unwrap_or(error);
    tracing::warn!(backend, error = %cause, "a backend cannot be reached");
    unavailable(format!("the {backend} service cannot be reached")).into()
}

/// What led to an error, from the nearest to the deepest.
fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(error.source(), |&cause| cause.source())
}

/// The refusal of a call because of a backend that is away.
#[must_use]
pub fn unavailable(message: String) -> Refusal {
    Refusal::new(Code::Unavailable, ErrorReason::BackendUnavailable, message).retry_after(RETRY_AFTER)
}

/// Reads and writes messages that are known by their descriptors alone.
struct DynamicCodec {
    output: MessageDescriptor,
}

struct DynamicEncoder;

struct DynamicDecoder {
    output: MessageDescriptor,
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder { output: self.output.clone() }
    }
}

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.output.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
