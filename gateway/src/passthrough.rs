//! gRPC and gRPC-Web on the port of the gateway. Calls are forwarded unchanged, so that clients need only one
//! address.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyStream, Full, StreamBody};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use service_kit::{
    server::{
        body,
        call::{CallLayer, CallService, UPLOAD_TIMEOUT, caller_timeout, panic_text},
        call_metrics::CallMetrics,
        connection_state::ConnectionState,
        reflection::add_reflection,
        request_id::{REQUEST_ID, RequestId},
    },
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    service::{Routes, RoutesBuilder},
};
use tonic_health::pb::health_server::HealthServer;
use tonic_types::{ErrorDetails, StatusExt};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tracing::Span;

use crate::{
    backend::{self, Backend},
    body::{Incomplete, MESSAGE_PREFIX_BYTES, read_to_end, with_guard},
    http::headers,
    quota::{Client, LimitName, Permit, Quota},
    retry::Repeat,
    routing::binding::has_no_side_effects,
    site::health::Health,
};

/// Reports whether a request is a gRPC call (`application/grpc`) or a gRPC-Web call (`application/grpc-web`).
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b'-')),
        None => false,
    }
}

/// Reports whether a request is a gRPC-Web call.
fn is_grpc_web(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc-web"))
}

/// Hides the length of a body. For a base64 body, tonic-web reports the encoded length as the length of the decoded
/// body, and a backend would consider the body incomplete.
fn without_length(body: Body) -> Body {
    Body::new(StreamBody::new(BodyStream::new(body)))
}

/// Maximum number of concurrent calls of reflection and health checks, which include watches that never end; and of
/// those from one client.
const MAX_BUILTIN_CALLS: usize = 8192;
const MAX_BUILTIN_CALLS_PER_CLIENT: usize = MAX_BUILTIN_CALLS / 2;

/// Forwards gRPC calls to the backends.
#[derive(Clone, Debug)]
pub struct Passthrough {
    pool: DescriptorPool,
    backends: Arc<[Backend]>,
    /// The services of the gateway itself: reflection and health.
    builtin: CallService<Routes>,
    builtin_calls: Arc<Quota>,
    limits: Limits,
    /// Ends all streams.
    shutdown: CancellationToken,
}

/// The limits of forwarded calls.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum time for a response, or for the start of a stream. Clients may request a shorter time.
    pub timeout: Duration,
    /// Maximum size of a request message.
    pub max_message_bytes: usize,
    /// The bytes of bodies in memory.
    pub bytes: Arc<Quota>,
}

/// How a call is forwarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One message in each direction. `is_read` means that the call has no effect.
    Unary { is_read: bool },
    /// One request message and a stream of responses.
    ServerStreaming,
    /// A stream of requests.
    ClientStreaming,
}

impl Kind {
    /// Returns the kind of a method. Its service rejects an unknown one.
    fn new(method: Option<&MethodDescriptor>) -> Self {
        let Some(method) = method else { return Self::Unary { is_read: true } };
        if method.is_client_streaming() {
            return Self::ClientStreaming;
        }
        if method.is_server_streaming() {
            return Self::ServerStreaming;
        }
        Self::Unary { is_read: has_no_side_effects(method) }
    }
}

impl Passthrough {
    /// Creates a service that forwards each call to the backend that serves its package.
    ///
    /// # Errors
    /// If the descriptors are invalid.
    pub fn new(
        pool: DescriptorPool,
        backends: &[Backend],
        health: Health,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let names: Vec<_> = pool.services().map(|service| service.full_name().to_owned()).collect();
        let served: Vec<_> =
            names.into_iter().filter(|name| backends.iter().any(|backend| backend.serves(name))).collect();
        let mut routes = RoutesBuilder::default();
        add_reflection(&mut routes, &served)?;
        routes.add_service(HealthServer::new(health));
        // The server has already limited the size of the headers.
        let builtin = CallLayer::new(limits.timeout, usize::MAX, shutdown.clone(), CallMetrics::new(&[])?)
            .layer(routes.routes().prepare());
        let name = LimitName { what: "health checks", metric: "gateway_health_checks" };
        let builtin_calls = Quota::new(name, MAX_BUILTIN_CALLS, MAX_BUILTIN_CALLS_PER_CLIENT);
        Ok(Self { pool, backends: backends.to_vec().into(), builtin, builtin_calls, limits, shutdown })
    }

    /// Handles a call. Errors become responses with a gRPC status.
    pub async fn handle(&self, request: Request<Body>, id: &RequestId) -> Response<Body> {
        let this = self.clone();
        let id = id.clone();
        let is_grpc_web = is_grpc_web(request.headers());
        let inner = service_fn(move |request: Request<Body>| {
            let (this, id) = (this.clone(), id.clone());
            async move {
                let request = if is_grpc_web { request.map(without_length) } else { request };
                // A panic would reset the stream, or end the connection, without a status.
                let result = AssertUnwindSafe(this.respond(request, &id)).catch_unwind().await;
                let result = result.unwrap_or_else(|panic| Err(ApiError::internal(panic_text(&*panic)).into()));
                Ok::<_, Infallible>(result.unwrap_or_else(|status| with_id(&status, &id).into_http()))
            }
        });
        match GrpcWebLayer::new().layer(inner).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn respond(&self, request: Request<Body>, id: &RequestId) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let (service, method) = path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        if service.starts_with("grpc.") {
            return self.call_builtin(request, id).await;
        }
        let Some(backend) = self.backends.iter().find(|backend| backend.serves(service)) else {
            let message = "this server has no such method or service";
            return Err(ApiError::new(Code::Unimplemented, ErrorReason::MethodUnknown, message).into());
        };
        let descriptor = self.pool.get_service_by_name(service);
        let descriptor = descriptor.and_then(|service| service.methods().find(|candidate| candidate.name() == method));
        if descriptor.is_some() {
            Span::current().record("rpc", &path);
        }
        let end_of_streams = ConnectionState::end_of_streams(request.extensions(), &self.shutdown);
        let response = self.forward(backend, Kind::new(descriptor.as_ref()), request, id).await?;
        Ok(response.map(|body| body::end_on_shutdown(end_of_streams, body)))
    }

    /// Calls a service of the gateway itself.
    async fn call_builtin(&self, mut request: Request<Body>, id: &RequestId) -> Result<Response<Body>, Status> {
        let permit = self.builtin_calls.acquire(Client::from_extensions(request.extensions()), 1)?;
        request.headers_mut().insert(REQUEST_ID, id.as_header().clone());
        let response = self.builtin.clone().call(request).await.unwrap_or_else(|never| match never {});
        Ok(response.map(|body| with_guard(body, permit)))
    }

    /// Forwards a call. The body of the request is read to the end first, unless it is a stream.
    async fn forward(
        &self,
        backend: &Backend,
        kind: Kind,
        request: Request<Body>,
        id: &RequestId,
    ) -> Result<Response<Body>, Status> {
        let limit = match kind {
            Kind::ClientStreaming => UPLOAD_TIMEOUT.max(self.limits.timeout),
            Kind::Unary { .. } | Kind::ServerStreaming => self.limits.timeout,
        };
        let timeout = caller_timeout(request.headers()).unwrap_or(limit).min(limit);
        let deadline = Instant::now() + timeout;
        let (mut parts, body) = request.into_parts();
        let mut permit = self.limits.bytes.acquire(Client::from_extensions(&parts.extensions), 0)?;
        parts.headers = headers::passthrough_metadata(&parts, id, backend);
        parts.version = Version::HTTP_2;
        if kind == Kind::ClientStreaming {
            return backend.forward_stream(Request::from_parts(parts, body), deadline).await;
        }
        let mut request = Request::from_parts(parts, self.read_message(body, &mut permit, deadline).await?);
        if let Kind::Unary { is_read } = kind {
            return backend.forward(request, is_read, permit, deadline).await;
        }
        request.extensions_mut().insert(Repeat::IfUnprocessed);
        backend.forward_stream(request, deadline).await
    }

    /// Reads the body of a request that consists of one message.
    async fn read_message(&self, body: Body, permit: &mut Permit, deadline: Instant) -> Result<Body, Status> {
        let max_bytes = self.limits.max_message_bytes;
        let read = read_to_end(body, max_bytes + MESSAGE_PREFIX_BYTES, |bytes| permit.grow(bytes));
        match timeout_at(deadline, read).await {
            Ok(Ok(whole)) => Ok(Body::new(Full::from(whole.bytes))),
            Ok(Err(Incomplete::Refused(status))) => Err(status),
            Ok(Err(Incomplete::TooLarge)) => {
                let message = format!("the message is larger than {max_bytes} bytes");
                Err(ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message).into())
            }
            Ok(Err(Incomplete::Broken(_))) => {
                let message = "the message ended early or is not well-formed";
                Err(ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message).into())
            }
            Err(_) => Err(backend::request_timeout().into()),
        }
    }
}

/// Adds the request id to an error of the gateway, as the services do to theirs.
fn with_id(status: &Status, id: &RequestId) -> Status {
    let mut details: ErrorDetails = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    let metadata = status.metadata().clone();
    Status::with_error_details_and_metadata(status.code(), status.message(), details, metadata)
}
