//! One HTTP request from its arrival to its answer: request id, log, panics caught, deadline, and who answers it.

use std::{collections::HashMap, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body as HttpBody;
use prost_reflect::DescriptorPool;
use service_kit::{
    server::{
        call::panic_text,
        request_id::{REQUEST_ID, RequestId},
    },
    status::ApiError,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::{Instrument, field};

use crate::{
    backend::{self, Backend},
    http::{
        compression,
        error::HttpError,
        headers, negotiation,
        request::{JsonLimits, check_target},
    },
    passthrough::{Passthrough, is_grpc},
    routing::binding,
    session::cookie_mode::CookieMode,
    site::{asset::Asset, health},
    transcode::Transcoder,
};

/// The gateway: every RPC of a descriptor pool, and all that has an HTTP binding.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

impl fmt::Debug for Gateway {
    /// Without the descriptors: a message may hold itself, and has no end then.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { transcoder, backends, timeout, .. } = &*self.0;
        let mut gateway = f.debug_struct("Gateway");
        gateway.field("cookies", &transcoder.cookies).field("backends", backends).field("timeout", timeout);
        gateway.finish_non_exhaustive()
    }
}

struct Inner {
    transcoder: Transcoder,
    passthrough: Passthrough,
    assets: HashMap<&'static str, Asset>,
    backends: Vec<Backend>,
    timeout: Duration,
}

/// The settings of a gateway, except the contract and the services.
#[derive(Debug)]
pub struct Settings {
    /// How large and deep a body may be.
    pub json: JsonLimits,
    /// How long a request may take, or the beginning of a stream. A caller may ask for less.
    pub timeout: Duration,
    /// The cookies of browsers.
    pub cookies: CookieMode,
    /// The files that are there beside the RPCs, by their paths.
    pub assets: HashMap<&'static str, Asset>,
    /// Ends streams.
    pub shutdown: CancellationToken,
}

impl Gateway {
    /// Reads the bindings in `pool`.
    ///
    /// # Errors
    /// If a binding is not right, two of them are for the same method and path, or no backend serves its package.
    pub fn new(pool: DescriptorPool, backends: Vec<Backend>, settings: Settings) -> anyhow::Result<Self> {
        let Settings { json, timeout, cookies, assets, shutdown } = settings;
        let router = binding::compile(&pool, &backends)?;
        let passthrough = Passthrough::new(pool.clone(), &backends, timeout, shutdown.clone())?;
        let transcoder = Transcoder { pool, router, cookies, json, shutdown };
        Ok(Self(Arc::new(Inner { transcoder, passthrough, assets, backends, timeout })))
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = RequestId::of(request.headers());
        let method = request.method().clone();
        let (takes_gzip, is_last) = (negotiation::takes_gzip(request.headers()), is_chunked(&request));
        // Somebody may have put a secret into the path, so the log has what it leads to instead.
        let span = tracing::info_span!("request", request_id = id.as_str(), %method, rpc = field::Empty);
        let answered = async {
            let begun = Instant::now();
            let mut response = if is_grpc(request.headers()) {
                self.0.passthrough.answer(request.map(Body::new), &id).await
            } else {
                let mut response = self.0.answer(request, &id, takes_gzip).await;
                finish(&mut response, &method, &id);
                response
            };
            if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::info!(code = response.status().as_u16(), elapsed_us, "answered");
            response
        };
        answered.instrument(span).await
    }
}

impl Inner {
    /// The answer over HTTP/JSON, whatever happens.
    async fn answer<B>(&self, request: Request<B>, id: &RequestId, takes_gzip: bool) -> Response<Body>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answer = async { compression::compress(self.try_answer(request, id).await?, takes_gzip).await };
        let error = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) => error,
            Err(panic) => ApiError::internal(panic_text(&*panic)).into(),
        };
        error.into_response(&self.transcoder.pool, id)
    }

    async fn try_answer<B>(&self, request: Request<B>, id: &RequestId) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        check_target(request.uri())?;
        match request.uri().path() {
            path if self.is_own(path) && !READS.contains(request.method()) => Err(HttpError::method_unknown(&READS)),
            "/healthz" => Ok(health::serving()),
            "/readyz" => health::ready(&self.backends).await,
            path if self.is_own(path) => Ok(self.assets[path].answer(request.headers())),
            _ => {
                let deadline = Instant::now() + headers::timeout(request.headers(), self.timeout)?;
                let answer = timeout_at(deadline, self.transcoder.answer(request, id, deadline));
                answer.await.unwrap_or_else(|_| Err(backend::deadline_exceeded().into()))
            }
        }
    }

    /// Whether it is the gateway that answers there, and not an RPC.
    fn is_own(&self, path: &str) -> bool {
        ["/healthz", "/readyz"].contains(&path) || self.assets.contains_key(path)
    }
}

/// Whether the body comes in chunks over HTTP/1. Beside them there may have been a length, which hyper drops; where
/// another server on the way believed it, what follows would be taken for a request of somebody else. So nothing may
/// follow (RFC 9112, section 6.1).
fn is_chunked<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_2 && request.headers().contains_key(header::TRANSFER_ENCODING)
}

const READS: [Method; 2] = [Method::GET, Method::HEAD];

/// What every answer has.
fn finish(response: &mut Response<Body>, method: &Method, id: &RequestId) {
    // An answer that never has a body has no length either (RFC 9110, section 8.6).
    let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if let Some(length) = response.body().size_hint().exact().filter(|_| has_body) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.as_header().clone());
    // Answers are somebody's own, and errors pass; only what is the same for all says otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
