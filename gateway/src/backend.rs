//! Connections to the services behind the gateway, and calls of any of their methods.

use std::{error::Error, iter, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, Stream};
use http::{HeaderMap, HeaderValue, Request, Response, uri::PathAndQuery};
use prost_reflect::DynamicMessage;
use service_kit::{
    auth::credential::ServiceToken, network::ProxyArgs, server::call::panic_text, status::ApiError, trace,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Extensions, Status, Streaming, body::Body, client::Grpc, metadata::MetadataMap};
use tower::Service;
use tracing::Instrument;

use crate::{
    body::MESSAGE_PREFIX_BYTES,
    connection::ConnectionArgs,
    connections::{Connections, Lease},
    exchange::Exchange,
    quota::{Client, Permit, Quota},
    raw_codec::RawResponseCodec,
    replica::{Address, Replica},
    retry::Repeat,
};

/// The retry delay while a backend is unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a backend may exceed the deadline of a call before its stream is reset.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Its replicas; at least one.
    pub replicas: Vec<Arc<Replica>>,
    /// The connections for unary calls.
    pub unary_calls: Arc<Connections>,
    /// The connections for streams, so that slow readers do not delay other calls.
    pub streams: Arc<Connections>,
    /// How the address of the client is forwarded to the service; `None` if it is not.
    pub forwarding: Option<Arc<Forwarding>>,
    /// The service token that lets a service of this process recognize the gateway, whose traces it then continues.
    pub peer_token: Option<HeaderValue>,
    /// Maximum size of a response.
    pub max_response_bytes: usize,
    /// The bytes of bodies in memory.
    pub bytes: Arc<Quota>,
}

/// The response of a unary call.
#[derive(Debug)]
pub struct UnaryResponse {
    /// Its metadata.
    pub metadata: MetadataMap,
    /// Its encoded message.
    pub message: Bytes,
    /// Its bytes, which count as in use.
    pub permit: Arc<Permit>,
}

impl Backend {
    /// Creates a backend whose connections are opened when they are first used.
    #[must_use]
    pub fn new(
        name: &'static str,
        package: &'static str,
        addresses: impl IntoIterator<Item = impl Into<Address>>,
        args: &ConnectionArgs,
        bytes: &Arc<Quota>,
    ) -> Self {
        let replicas: Vec<_> = addresses.into_iter().map(|address| Arc::new(Replica::new(address))).collect();
        Self {
            name,
            package,
            unary_calls: Connections::for_unary_calls(args, &replicas),
            streams: Connections::for_streams(args, &replicas),
            replicas,
            forwarding: None,
            peer_token: None,
            max_response_bytes: args.limits.max_response_bytes,
            bytes: Arc::clone(bytes),
        }
    }

    /// Reports whether the backend has the gRPC service with this full name.
    #[must_use]
    pub fn serves(&self, service: &str) -> bool {
        service.strip_prefix(self.package).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Calls the unary RPC of a route.
    ///
    /// # Errors
    /// The error of the service, with a reason added if it has none; `BACKEND_UNAVAILABLE` if it cannot be reached;
    /// `OVERLOADED` if there are too many calls.
    pub async fn call(
        &self,
        rpc: &PathAndQuery,
        request: tonic::Request<DynamicMessage>,
        is_read: bool,
        client: Client,
        deadline: Instant,
    ) -> Result<UnaryResponse, Status> {
        let exchange = self.exchange(client, is_read, self.bytes.acquire(client, 0)?)?;
        let mut grpc = Grpc::new(exchange).max_decoding_message_size(usize::MAX);
        let rpc = rpc.clone();
        let call = async move { grpc.unary(with_timeout(request, deadline), rpc, RawResponseCodec).await };
        let (metadata, message, mut extensions) = self.run(call, deadline).await?.into_parts();
        let Some(permit) = extensions.remove() else {
            return Err(ApiError::internal("a call without a permit").into());
        };
        Ok(UnaryResponse { metadata, message, permit })
    }

    /// Calls a server-streaming RPC. The deadline applies until the stream starts.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn stream(
        &self,
        rpc: &PathAndQuery,
        request: tonic::Request<DynamicMessage>,
        client: Client,
        deadline: Instant,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut grpc = self.grpc(self.streams.acquire(client)?);
        let mut request = with_timeout(request, deadline);
        request.extensions_mut().insert(Repeat::IfUnprocessed);
        let rpc = rpc.clone();
        let call = async move { grpc.server_streaming(request, rpc, RawResponseCodec).await };
        self.run(call, deadline).await.map(tonic::Response::into_inner)
    }

    /// Calls a client-streaming RPC, and returns its response message. The call ends early with the status of `failure`, if
    /// there is one.
    ///
    /// # Errors
    /// Those of [`call`](Self::call), and the failure.
    pub async fn upload(
        &self,
        rpc: &PathAndQuery,
        messages: tonic::Request<impl Stream<Item = DynamicMessage> + Send + 'static>,
        failure: impl Future<Output = Status> + Send + 'static,
        client: Client,
        deadline: Instant,
    ) -> Result<Bytes, Status> {
        let mut grpc = self.grpc(self.streams.acquire(client)?);
        let messages = with_timeout(messages, deadline);
        let rpc = rpc.clone();
        let call = async move {
            tokio::select! {
                response = grpc.client_streaming(messages, rpc, RawResponseCodec) => response,
                status = failure => Err(status),
            }
        };
        self.run(call, deadline).await.map(tonic::Response::into_inner)
    }

    fn grpc(&self, lease: Lease) -> Grpc<Lease> {
        Grpc::new(lease).max_decoding_message_size(self.max_response_bytes)
    }

    /// Forwards a unary call, and reads its response to the end. `is_read` means that the call has no effect, so that
    /// its response may be refused if there is no memory for it.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn forward(
        &self,
        request: Request<Body>,
        is_read: bool,
        permit: Permit,
        deadline: Instant,
    ) -> Result<Response<Body>, Status> {
        let mut exchange = self.exchange(Client::from_extensions(request.extensions()), is_read, permit)?;
        self.run(exchange.call(request), deadline).await
    }

    fn exchange(&self, client: Client, is_read: bool, permit: Permit) -> Result<Exchange, ApiError> {
        let max_bytes = self.max_response_bytes.saturating_add(MESSAGE_PREFIX_BYTES);
        Ok(Exchange { lease: self.unary_calls.acquire(client)?, is_read, max_bytes, permit: Some(permit) })
    }

    /// Forwards a streaming call until its response begins. It is sent again only if the request has the extension
    /// [`Repeat`].
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn forward_stream(&self, request: Request<Body>, deadline: Instant) -> Result<Response<Body>, Status> {
        let mut lease = self.streams.acquire(Client::from_extensions(request.extensions()))?;
        let call = async move { lease.call(request).await.map_err(Status::from_error) };
        self.run(call, deadline).await
    }

    /// Runs a call until its deadline.
    async fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Status>> + Send + 'static,
        deadline: Instant,
    ) -> Result<T, Status> {
        let is_in_process = self.replicas.iter().all(|replica| matches!(replica.address(), Address::InProcess(_)));
        let result = if is_in_process { run_in_place(call, deadline).await } else { run_to_end(call, deadline).await };
        result.map_err(|status| ensure_reason(self.name, status, deadline))
    }
}

/// Runs a call that ends if the client disconnects.
async fn run_in_place<T>(call: impl Future<Output = Result<T, Status>>, deadline: Instant) -> Result<T, Status> {
    match timeout_at(deadline, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(ApiError::internal(panic_text(&*panic)).into()),
        Err(_) => Err(deadline_exceeded().into()),
    }
}

/// Runs a call in a task of its own, which also ends if the client disconnects. A cancelled call would reset its stream,
/// and a server closes a connection on which many streams are reset before it has seen them (RFC 9113, section 10.5),
/// with the calls of all other clients.
async fn run_to_end<T: Send + 'static>(
    call: impl Future<Output = Result<T, Status>> + Send + 'static,
    deadline: Instant,
) -> Result<T, Status> {
    let call = trace::in_context(trace::current(), timeout_at(deadline + DRAIN_TIMEOUT, call)).in_current_span();
    match timeout_at(deadline, tokio::spawn(call)).await {
        Ok(Ok(Ok(result))) => result,
        Ok(Ok(Err(_))) | Err(_) => Err(deadline_exceeded().into()),
        Ok(Err(error)) => match error.try_into_panic() {
            Ok(panic) => Err(ApiError::internal(panic_text(&*panic)).into()),
            Err(error) => Err(ApiError::internal(error).into()),
        },
    }
}

/// Creates the request of a call.
#[must_use]
pub fn new_request<M>(message: M, metadata: HeaderMap) -> tonic::Request<M> {
    tonic::Request::from_parts(MetadataMap::from_headers(metadata), Extensions::new(), message)
}

fn with_timeout<M>(mut request: tonic::Request<M>, deadline: Instant) -> tonic::Request<M> {
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// Adds a reason to a status without one. The message of the status may come from tonic or a proxy, so it is logged
/// and not returned.
#[must_use]
pub fn ensure_reason(backend: &str, status: Status, deadline: Instant) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    if status.code() == Code::DeadlineExceeded || deadline <= Instant::now() {
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

/// Returns the error of a call whose request body did not arrive in time.
#[must_use]
pub fn request_timeout() -> ApiError {
    let message = "the request body did not arrive in time; the call had no effect";
    ApiError::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message)
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
