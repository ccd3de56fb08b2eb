//! Connections to the services behind the gateway, and calls of any of their methods.

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
use service_kit::{auth::credential::ServiceToken, network::ProxyArgs, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::Instant;
use tonic::{
    Code, Extensions, Request, Response, Status, Streaming, TimeoutExpired,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

/// Maximum time to connect. The next call tries again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The retry delay while a backend is unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The message for errors without a reason.
const NO_REASON_MESSAGE: &str = "the service behind the gateway returned an error without a reason";

/// How the gateway forwards the address of the client to a service.
#[derive(Debug, Default)]
pub struct Forwarding {
    /// The token that authenticates the gateway, so that the service trusts the forwarded address.
    pub token: Option<ServiceToken>,
    /// The proxies in front of the gateway that are trusted.
    pub proxies: ProxyArgs,
}

/// A service behind the gateway.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The name in the response of `/readyz`.
    pub name: &'static str,
    /// The package of its gRPC services, including sub-packages.
    pub package: &'static str,
    /// The connection, which is opened by the first call and reopened when it breaks.
    pub channel: Channel,
    /// The connections for streams, so that slow readers do not delay other calls.
    pub streams: Streams,
    /// How the address of the client is forwarded to the service; `None` if it is not.
    pub forwarding: Option<Arc<Forwarding>>,
    /// Maximum size of a response.
    pub max_response_bytes: usize,
}

impl Backend {
    /// Reports whether the backend has the gRPC service with this full name.
    #[must_use]
    pub fn serves(&self, service: &str) -> bool {
        service.strip_prefix(self.package).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Calls a unary RPC whose response type is `output`.
    ///
    /// # Errors
    /// The error of the service, with a reason added if it has none; `BACKEND_UNAVAILABLE` if it cannot be reached.
    pub async fn call(
        &self,
        rpc: &PathAndQuery,
        output: &MessageDescriptor,
        message: DynamicMessage,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Result<Response<DynamicMessage>, Status> {
        let mut grpc = self.ready_client(self.channel.clone()).await?;
        let response = grpc
            .unary(new_request(message, metadata, deadline), rpc.clone(), DynamicCodec { output: output.clone() })
            .await;
        response.map_err(|status| ensure_reason(self.name, status, deadline))
    }

    /// Calls a server-streaming RPC. The deadline applies until the stream starts.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn stream(
        &self,
        rpc: &PathAndQuery,
        output: &MessageDescriptor,
        message: DynamicMessage,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let mut grpc = self.ready_client(self.streams.next()).await?;
        let response = grpc
            .server_streaming(
                new_request(message, metadata, deadline),
                rpc.clone(),
                DynamicCodec { output: output.clone() },
            )
            .await;
        response.map(Response::into_inner).map_err(|status| ensure_reason(self.name, status, deadline))
    }

    async fn ready_client(&self, channel: Channel) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.max_response_bytes);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => Err(backend_unreachable(self.name, &error)),
        }
    }
}

fn new_request(message: DynamicMessage, metadata: HeaderMap, deadline: Instant) -> Request<DynamicMessage> {
    let mut request = Request::from_parts(MetadataMap::from_headers(metadata), Extensions::new(), message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// Several connections that are used round-robin.
#[derive(Clone, Debug)]
pub struct Streams {
    channels: Arc<[Channel]>,
    next_index: Arc<AtomicUsize>,
}

/// Number of connections for streams to a backend.
const STREAM_CONNECTIONS: usize = 8;

impl Streams {
    /// Creates connections that are opened when they are first used.
    #[must_use]
    pub fn new(connect: impl Fn() -> Channel) -> Self {
        Self { channels: (0..STREAM_CONNECTIONS).map(|_| connect()).collect(), next_index: Arc::default() }
    }

    /// Returns the next connection.
    #[must_use]
    pub fn next(&self) -> Channel {
        self.channels[self.next_index.fetch_add(1, Ordering::Relaxed) % self.channels.len()].clone()
    }
}

/// Creates a connection that is opened when it is first used. Keep-alive pings detect a broken connection.
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

/// Adds a reason to a status without one. The message of the status may come from tonic or a proxy, so it is logged
/// and not returned.
#[must_use]
pub fn ensure_reason(backend: &str, status: Status, deadline: Instant) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    // tonic enforces the deadline too, possibly a moment earlier.
    let timed_out = causes(&status).any(<dyn Error>::is::<TimeoutExpired>);
    if timed_out || status.code() == Code::DeadlineExceeded || deadline <= Instant::now() {
        return deadline_exceeded().into();
    }
    if status.source().is_some() || status.code() == Code::Unavailable {
        return backend_unreachable(backend, &status);
    }
    tracing::error!(backend, code = ?status.code(), error = status.message(), "a backend returned no error reason");
    match status.code() {
        // tonic returns the first two if a response is too large or cannot be decoded. That is not the caller's
        // error.
        Code::OutOfRange | Code::Internal | Code::Ok => ApiError::internal(NO_REASON_MESSAGE).into(),
        code => ApiError::new(code, ErrorReason::Internal, NO_REASON_MESSAGE).into(),
    }
}

/// Returns the error of a call whose deadline has passed.
#[must_use]
pub fn deadline_exceeded() -> ApiError {
    let message = "the deadline has passed; the call may have taken effect";
    ApiError::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message)
}

fn backend_unreachable(backend: &str, error: &dyn Error) -> Status {
    let cause = causes(error).last().unwrap_or(error);
    tracing::warn!(backend, error = %cause, "a backend cannot be reached");
    unavailable(format!("the {backend} service cannot be reached")).into()
}

/// Returns the sources of an error, starting with the direct one.
fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(error.source(), |&cause| cause.source())
}

/// Returns the error of a call to an unavailable backend.
#[must_use]
pub fn unavailable(message: String) -> ApiError {
    ApiError::new(Code::Unavailable, ErrorReason::BackendUnavailable, message).retry_after(RETRY_AFTER)
}

/// Encodes and decodes messages by their descriptors.
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
