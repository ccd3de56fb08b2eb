//! gRPC and gRPC-Web on the gateway's own port: calls are passed on as they are, so that clients need one address.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyStream, StreamBody};
use prost_reflect::DescriptorPool;
use service_kit::{
    server::{
        add_reflection,
        call::{CallLayer, CallService},
        request_id::{REQUEST_ID, RequestId},
        stream,
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

/// Whether a request is a call of gRPC (`application/grpc`), or of gRPC-Web (`application/grpc-web`).
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b'-')),
        None => false,
    }
}

/// Whether it is one of gRPC-Web.
fn is_web(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc-web"))
}

/// tonic-web says of a body in base64 that what it encodes is as long, and a backend would miss the rest.
fn without_length(body: Body) -> Body {
    Body::new(StreamBody::new(BodyStream::new(body)))
}

/// Passes calls on.
#[derive(Clone, Debug)]
pub struct Passthrough {
    pool: DescriptorPool,
    backends: Arc<[Backend]>,
    /// What the gateway says itself: reflection and health.
    own: CallService<Routes>,
    /// Ends streams.
    shutdown: CancellationToken,
}

impl Passthrough {
    /// To whichever backend serves a method.
    ///
    /// # Errors
    /// If the descriptors are invalid.
    pub fn new(
        pool: DescriptorPool,
        backends: &[Backend],
        timeout: Duration,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let names: Vec<_> = pool.services().map(|service| service.full_name().to_owned()).collect();
        let served: Vec<_> =
            names.into_iter().filter(|name| backends.iter().any(|backend| backend.serves(name))).collect();
        let mut routes = RoutesBuilder::default();
        add_reflection(&mut routes, &served)?;
        routes.add_service(HealthServer::new(Health(backends.to_vec())));
        // The server has limited the headers already.
        let own = CallLayer::new(timeout, usize::MAX, shutdown.clone()).layer(routes.routes().prepare());
        Ok(Self { pool, backends: backends.to_vec().into(), own, shutdown })
    }

    /// Answers a call, with a status whatever happens.
    pub async fn answer(&self, request: Request<Body>, id: &RequestId) -> Response<Body> {
        let this = self.clone();
        let own_id = id.clone();
        let is_web = is_web(request.headers());
        let inner = service_fn(move |request: Request<Body>| {
            let (this, id) = (this.clone(), own_id.clone());
            async move {
                let request = if is_web { request.map(without_length) } else { request };
                let passed = this.pass(request, &id).await;
                Ok::<_, Infallible>(passed.unwrap_or_else(|status| with_id(&status, &id).into_http()))
            }
        });
        match GrpcWebLayer::new().layer(inner).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn pass(&self, mut request: Request<Body>, id: &RequestId) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let (service, method) = path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        if service.starts_with("grpc.") {
            request.headers_mut().insert(REQUEST_ID, id.as_header().clone());
            let answer = self.own.clone().call(request).await;
            return Ok(answer.unwrap_or_else(|never| match never {}));
        }
        let Some(backend) = self.backends.iter().find(|backend| backend.serves(service)) else {
            let message = "this server has no such method or service";
            return Err(ApiError::new(Code::Unimplemented, ErrorReason::MethodUnknown, message).into());
        };
        let called = self.pool.get_service_by_name(service);
        let called = called.and_then(|service| service.methods().find(|known| known.name() == method));
        if called.is_some() {
            Span::current().record("rpc", &path);
        }
        let streams = called.is_some_and(|method| method.is_server_streaming());
        let channel = if streams { backend.streams.next() } else { backend.channel.clone() };
        let answer = pass_to(backend, channel, request, id).await?;
        Ok(answer.map(|body| stream::until(self.shutdown.clone(), body)))
    }
}

async fn pass_to(
    backend: &Backend,
    mut channel: Channel,
    request: Request<Body>,
    id: &RequestId,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    parts.headers = headers::passed_on(&parts, id, backend);
    parts.version = http::Version::HTTP_2;
    let unreachable =
        |error| backend::complete(backend.name, Status::from_error(Box::new(error)), Instant::now() + FOREVER);
    channel.ready().await.map_err(unreachable)?;
    channel.call(Request::from_parts(parts, body)).await.map_err(unreachable)
}

/// The deadline of a call is its service's matter.
const FOREVER: Duration = Duration::from_secs(3600);

/// An error of the gateway's own names the request, as those of the services do.
fn with_id(status: &Status, id: &RequestId) -> Status {
    let mut details: ErrorDetails = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    Status::with_error_details(status.code(), status.message(), details)
}
