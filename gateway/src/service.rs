//! Handles every HTTP request: assigns the request id, dispatches, and logs the response. Panics and the deadline of
//! HTTP/JSON requests are handled here, too.

use std::{collections::HashMap, convert::Infallible, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use prost_reflect::DescriptorPool;
use service_kit::{
    ops::shutdown::Shutdown,
    server::{
        call::panic_text,
        health::HealthReport,
        request_id::{REQUEST_ID, RequestId},
    },
    status::ApiError,
    trace::{self, HttpSpan},
};
use tokio::time::Instant;
use tonic::body::Body;
use tracing::{Instrument, field};

use crate::{
    backend::Backend,
    body::Whole,
    connection::{Connection, ConnectionArgs},
    http::{
        error::HttpError,
        headers, negotiation,
        request::{JsonLimits, check_target},
    },
    passthrough::{Limits, Passthrough, is_grpc},
    quota::{Client, Permit, Quota},
    route_metrics::{FixedRoutes, RouteMetrics},
    routing::binding,
    session::cookie_mode::CookieMode,
    site::{
        asset::Asset,
        health::{self, Health},
        oauth_metadata,
    },
    transcode::Transcoder,
};

/// The gateway. Serves every RPC of a descriptor pool over gRPC, and those with an HTTP binding over HTTP/JSON.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

impl fmt::Debug for Gateway {
    /// Omits the descriptors: a recursive message type would make the output endless.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { transcoder, health, timeout, .. } = &*self.0;
        let mut gateway = f.debug_struct("Gateway");
        gateway.field("cookies", &transcoder.cookies).field("health", health).field("timeout", timeout);
        gateway.finish_non_exhaustive()
    }
}

struct Inner {
    fixed_routes: FixedRoutes,
    transcoder: Transcoder,
    passthrough: Passthrough,
    assets: HashMap<&'static str, Asset>,
    health: Health,
    timeout: Duration,
    shutdown: Shutdown,
    /// The bytes of bodies in memory.
    bytes: Arc<Quota>,
}

/// The settings of a gateway, except the contract and the services.
#[derive(Debug)]
pub struct Settings {
    /// Limits of JSON request bodies.
    pub json: JsonLimits,
    /// Maximum size of the request message of a gRPC call.
    pub max_message_bytes: usize,
    /// Maximum time for a response, or for the start of a stream. Clients may request a shorter time.
    pub timeout: Duration,
    /// The bytes of bodies in memory.
    pub bytes: Arc<Quota>,
    /// Authentication of browsers by cookies.
    pub cookies: CookieMode,
    /// The files that the gateway serves, by path.
    pub assets: HashMap<&'static str, Asset>,
    /// Its announcement ends the readiness of the gateway, and its start ends all streams.
    pub shutdown: Shutdown,
}

impl Gateway {
    /// Creates a gateway with the bindings in `pool`.
    ///
    /// # Errors
    /// If a binding is invalid, two bindings have the same method and path, or no backend serves the package of an
    /// RPC.
    pub fn new(pool: DescriptorPool, backends: &[Backend], settings: Settings) -> anyhow::Result<Self> {
        let Settings { json, max_message_bytes, timeout, bytes, cookies, assets, shutdown } = settings;
        let router = binding::compile(&pool, backends)?;
        let health = Health::new(&pool, backends, shutdown.announced.clone());
        let limits = Limits { timeout, max_message_bytes, bytes: Arc::clone(&bytes) };
        let started = shutdown.started.clone();
        let passthrough = Passthrough::new(pool.clone(), backends, health.clone(), limits, started.clone())?;
        let fixed_routes = FixedRoutes::new(&pool, assets.keys().copied().chain(BUILTIN_PATHS));
        let transcoder = Transcoder { pool, router: Arc::new(router), cookies, json, shutdown: started };
        Ok(Self(Arc::new(Inner { fixed_routes, transcoder, passthrough, assets, health, timeout, shutdown, bytes })))
    }

    /// Polls the health of the services behind the gateway. Never ends.
    pub fn poll_health(&self, args: ConnectionArgs) -> impl Future<Output = ()> + use<> {
        let health = self.0.health.clone();
        async move { health.poll(|replica| Connection::for_health_checks(&args, replica)).await }
    }

    /// Reports the health of the gateway to `report`. Never ends.
    pub fn report_health(&self, report: HealthReport) -> impl Future<Output = Infallible> + use<> {
        let health = self.0.health.clone();
        async move { health.report(&report).await }
    }

    /// Handles a request and returns its response.
    pub async fn handle<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = RequestId::from_headers(request.headers());
        let cookies = &self.0.transcoder.cookies.settings;
        let address = headers::client_ip(request.extensions(), request.headers(), &cookies.proxies);
        let is_secure = cookies.is_secure(request.extensions(), request.headers());
        request.extensions_mut().insert(Client::new(address));
        let method = request.method().clone();
        let (accepts_gzip, must_close) = (negotiation::accepts_gzip(request.headers()), is_chunked(&request));
        // The path may contain a secret, so the RPC is logged instead.
        let http_span = self.0.start_span(&request);
        let trace_id = http_span.trace_id().map(field::display);
        let span = tracing::info_span!("request", request_id = id.as_str(), %method, rpc = field::Empty, trace_id);
        let context = http_span.context();
        let respond = async {
            let start = Instant::now();
            let mut route = self.0.fixed_routes.unmatched(&method);
            let mut response = if is_grpc(request.headers()) {
                route = self.0.fixed_routes.get(request.uri().path()).unwrap_or(route);
                self.0.passthrough.handle(request.map(Body::new), &id).await
            } else {
                let mut response = self.0.handle(request, &id, accepts_gzip, &mut route).await;
                finish(&mut response, &method, &id);
                if is_secure {
                    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, TRANSPORT_SECURITY);
                }
                response
            };
            if must_close {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let elapsed = start.elapsed();
            route.record(response.status(), elapsed);
            http_span.end(route.route(), response.status());
            let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(http = response.status().as_u16(), elapsed_us, "call completed");
            response
        };
        trace::in_context(context, respond.instrument(span)).await
    }
}

impl Inner {
    /// Starts the span of a request, except for health checks, reflection and the files of the gateway.
    fn start_span<B>(&self, request: &Request<B>) -> HttpSpan {
        let path = request.uri().path();
        if !trace::is_enabled() || path.starts_with("/grpc.") || self.is_builtin(path) {
            return HttpSpan::default();
        }
        HttpSpan::start(request.method(), request.extensions(), request.headers())
    }

    /// Handles a request over HTTP/JSON. Converts errors and panics to responses. Sets `route`, if the path is known.
    async fn handle<'a, B>(
        &'a self,
        request: Request<B>,
        id: &RequestId,
        accepts_gzip: bool,
        route: &mut &'a RouteMetrics,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_read = READ_METHODS.contains(request.method());
        let result = async {
            let mut permit = self.bytes.acquire(Client::from_extensions(request.extensions()), 0)?;
            let response = self.try_handle(request, id, &mut permit, route).await?;
            hold_bytes(negotiation::compress(response, accepts_gzip).await?, is_read, permit).await
        };
        let error: HttpError = match AssertUnwindSafe(result).catch_unwind().await {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) => error,
            Err(panic) => ApiError::internal(panic_text(&*panic)).into(),
        };
        error.into_response(&self.transcoder.pool, id)
    }

    async fn try_handle<'a, B>(
        &'a self,
        request: Request<B>,
        id: &RequestId,
        permit: &mut Permit,
        route: &mut &'a RouteMetrics,
    ) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        check_target(request.uri())?;
        if self.is_builtin(request.uri().path()) {
            *route = self.fixed_routes.get(request.uri().path()).unwrap_or(*route);
        }
        match request.uri().path() {
            path if self.is_builtin(path) && !READ_METHODS.contains(request.method()) => {
                Err(HttpError::method_not_allowed(&READ_METHODS))
            }
            "/healthz" => Ok(health::serving()),
            "/readyz" if self.shutdown.announced.is_cancelled() => Err(health::shutting_down().into()),
            "/readyz" => self.health.ready().await,
            oauth_metadata::PATH => {
                let settings = &self.transcoder.cookies.settings;
                Ok(oauth_metadata::metadata(settings, request.uri(), request.headers(), request.extensions()))
            }
            path if self.is_builtin(path) => Ok(self.assets[path].response(request.headers())),
            _ => {
                let deadline = Instant::now() + headers::timeout(request.headers(), self.timeout)?;
                self.transcoder.handle(request, id, deadline, permit, route).await
            }
        }
    }

    /// Reports whether the gateway serves the path itself, instead of an RPC.
    fn is_builtin(&self, path: &str) -> bool {
        BUILTIN_PATHS.contains(&path) || self.assets.contains_key(path)
    }
}

/// Reports whether the body is chunked over HTTP/1. The request may also have had a `Content-Length`, which hyper
/// drops. A proxy that trusts that length sees a different end of the body, and may take the rest for the request of
/// another client. So the connection must be closed after the response (RFC 9112, section 6.1).
fn is_chunked<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_2 && request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// A browser that has received it over TLS uses TLS for this host for a year (RFC 6797).
const TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What the gateway serves itself, besides files.
const BUILTIN_PATHS: [&str; 3] = ["/healthz", "/readyz", oauth_metadata::PATH];

const READ_METHODS: [Method; 2] = [Method::GET, Method::HEAD];

/// Returns a response whose body counts as in use until it has been sent or dropped. A stream is not counted.
async fn hold_bytes(response: Response<Body>, is_read: bool, mut permit: Permit) -> Result<Response<Body>, HttpError> {
    permit.clear();
    if response.body().size_hint().exact().is_none() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    permit.grow_for_response(bytes.len(), is_read)?;
    Ok(Response::from_parts(parts, Whole { bytes, trailers: None }.into_body(Arc::new(permit))))
}

/// Sets the headers that every HTTP/JSON response has, and removes the body of a response to HEAD.
fn finish(response: &mut Response<Body>, method: &Method, id: &RequestId) {
    // A response that never has a body has no length either (RFC 9110, section 8.6).
    let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if let Some(length) = response.body().size_hint().exact().filter(|_| has_body) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.as_header().clone());
    // Responses are private and errors are temporary, so they are not cached. Only files set another value.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
