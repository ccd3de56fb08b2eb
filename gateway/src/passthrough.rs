//! gRPC and gRPC-Web on the port of the gateway. Calls are forwarded unchanged, so that clients need only one
//! address.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyStream, StreamBody};
use prost_reflect::DescriptorPool;
use service_kit::{
    ops::shutdown::Shutdown,
    server::{
        body,
        call::{CallLayer, CallService},
        reflection::add_reflection,
        request_id::{REQUEST_ID, RequestId},
    },
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    service::{Routes, RoutesBuilder},
    transport::Channel,
};
use tonic_health::pb::health_server::HealthServer;
use tonic_types::{ErrorDetails, StatusExt};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tracing::Span;

use crate::{
    backend::{self, Backend},
    http::headers,
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

/// Forwards gRPC calls to the backends.
#[derive(Clone, Debug)]
pub struct Passthrough {
    pool: DescriptorPool,
    backends: Arc<[Backend]>,
    /// The services of the gateway itself: reflection and health.
    builtin: CallService<Routes>,
    /// Ends all streams.
    shutdown: CancellationToken,
}

impl Passthrough {
    /// Creates a service that forwards each call to the backend that serves its package.
    ///
    /// # Errors
    /// If the descriptors are invalid.
    pub fn new(
        pool: DescriptorPool,
        backends: &[Backend],
        timeout: Duration,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let names: Vec<_> = pool.services().map(|service| service.full_name().to_owned()).collect();
        let served: Vec<_> =
            names.into_iter().filter(|name| backends.iter().any(|backend| backend.serves(name))).collect();
        let mut routes = RoutesBuilder::default();
        add_reflection(&mut routes, &served)?;
        routes.add_service(HealthServer::new(Health { backends: backends.to_vec(), announced: shutdown.announced }));
        // The server has already limited the size of the headers.
        let builtin = CallLayer::new(timeout, usize::MAX, shutdown.started.clone()).layer(routes.routes().prepare());
        Ok(Self { pool, backends: backends.to_vec().into(), builtin, shutdown: shutdown.started })
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
                let result = this.forward(request, &id).await;
                Ok::<_, Infallible>(result.unwrap_or_else(|status| with_id(&status, &id).into_http()))
            }
        });
        match GrpcWebLayer::new().layer(inner).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn forward(&self, mut request: Request<Body>, id: &RequestId) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let (service, method) = path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        if service.starts_with("grpc.") {
            request.headers_mut().insert(REQUEST_ID, id.as_header().clone());
            let response = self.builtin.clone().call(request).await;
            return Ok(response.unwrap_or_else(|never| match never {}));
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
        let is_streaming = descriptor.is_some_and(|method| method.is_server_streaming());
        let channel = if is_streaming { backend.streams.next() } else { backend.channel.clone() };
        let response = forward_to(backend, channel, request, id).await?;
        Ok(response.map(|body| body::end_on_shutdown(self.shutdown.clone(), body)))
    }
}

async fn forward_to(
    backend: &Backend,
    mut channel: Channel,
    request: Request<Body>,
    id: &RequestId,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    parts.headers = headers::passthrough_metadata(&parts, id, backend);
    parts.version = http::Version::HTTP_2;
    let to_status =
        |error| backend::ensure_reason(backend.name, Status::from_error(Box::new(error)), Instant::now() + NO_DEADLINE);
    channel.ready().await.map_err(to_status)?;
    channel.call(Request::from_parts(parts, body)).await.map_err(to_status)
}

/// Longer than any deadline. The service enforces the deadline of a forwarded call, not the gateway.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

/// Adds the request id to an error of the gateway, as the services do to theirs.
fn with_id(status: &Status, id: &RequestId) -> Status {
    let mut details: ErrorDetails = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    Status::with_error_details(status.code(), status.message(), details)
}
