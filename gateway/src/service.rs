//! One HTTP request from its arrival to its answer: request id, log, panics caught, routing, deadline, the call.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::body::Body as HttpBody;
use prost_reflect::DescriptorPool;
use service_kit::{
    server::{
        call::panic_text,
        request_id::{REQUEST_ID, RequestId},
    },
    status::Refusal,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, body::Body};
use tracing::{Instrument, Span, field};

use crate::{
    backend::{self, Backend},
    binding::{self, BodyRule, Route},
    etag,
    failure::Failure,
    headers, health,
    request::{Format, Input, JsonLimits, format, read_body, to_message},
    response,
    router::{Miss, Router},
};

/// The gateway: every unary RPC of a descriptor pool that has an HTTP binding.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: DescriptorPool,
    router: Router<Route>,
    backends: Vec<Backend>,
    json: JsonLimits,
    timeout: Duration,
}

impl Gateway {
    /// Reads the bindings in `pool`. Requests may take as long as `timeout`, or as the caller says, whichever is
    /// shorter.
    ///
    /// # Errors
    /// If a binding is not right, two of them are for the same method and path, or no backend serves its package.
    pub fn new(
        pool: DescriptorPool,
        backends: Vec<Backend>,
        json: JsonLimits,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let router = binding::compile(&pool, &backends)?;
        Ok(Self(Arc::new(Inner { pool, router, backends, json, timeout })))
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = RequestId::of(request.headers());
        let method = request.method().clone();
        // Somebody may have put a secret into the path, so the log has what it leads to instead.
        let span = tracing::info_span!("request", request_id = id.as_str(), %method, rpc = field::Empty);
        let answered = async {
            let begun = Instant::now();
            let answer = AssertUnwindSafe(self.0.try_answer(request, &id)).catch_unwind().await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(failure)) => failure.into_response(&self.0.pool, &id),
                Err(panic) => Failure::from(Refusal::internal(panic_text(&*panic))).into_response(&self.0.pool, &id),
            };
            finish(&mut response, &method, &id);
            let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::info!(code = response.status().as_u16(), elapsed_us, "answered");
            response
        };
        answered.instrument(span).await
    }
}

impl Inner {
    async fn try_answer<B>(&self, request: Request<B>, id: &RequestId) -> Result<Response<Body>, Failure>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/healthz" | "/readyz" if !is_read(&parts.method) => Err(method_unknown(&[Method::GET, Method::HEAD])),
            "/healthz" => Ok(health::serving()),
            "/readyz" => health::ready(&self.backends).await,
            _ => {
                let deadline = Instant::now() + headers::timeout(&parts.headers, self.timeout)?;
                let answer = timeout_at(deadline, self.transcode(&parts, body, id, deadline));
                answer.await.unwrap_or_else(|_| Err(backend::deadline_exceeded().into()))
            }
        }
    }

    async fn transcode<B>(
        &self,
        request: &request::Parts,
        body: B,
        id: &RequestId,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let found = self.router.find(&request.method, request.uri.path()).map_err(refuse_path)?;
        let route = found.target;
        Span::current().record("rpc", route.rpc.as_str());
        let body = read_body(body, self.json).await?;
        let has_body = !body.is_empty() && !matches!(route.body, BodyRule::None);
        let format = if has_body { format(&request.headers, route)? } else { Format::Json };
        let query = request.uri.query().unwrap_or_default();
        let input = Input { segments: &found.segments, query, body: &body, format };
        let mut message = to_message(route, input, self.json)?;
        let by_header = etag::put_if_match(route, &request.headers, &mut message)?;
        let metadata = headers::metadata(request, id, &route.backend);
        let (rpc, output) = (route.rpc.clone(), route.output.clone());
        let answer = route.backend.call(rpc, output, message, metadata, deadline).await;
        let answer = answer.map_err(|status| etag::refused(status, by_header))?;
        let mut response = response::from_message(route, &answer)?;
        if let Some(tag) = etag::of(&answer) {
            if is_read(&request.method) && etag::is_known(&request.headers, &tag) {
                response = response::not_modified();
            }
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

fn refuse_path(miss: Miss) -> Failure {
    match miss {
        Miss::NotFound => {
            Refusal::new(Code::NotFound, ErrorReason::RouteNotFound, "there is nothing at this path").into()
        }
        Miss::Method(allowed) => method_unknown(&allowed),
        Miss::BadEncoding => {
            let message = "the path is not percent-encoded UTF-8";
            Refusal::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message).into()
        }
    }
}

fn method_unknown(allowed: &[Method]) -> Failure {
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let message = format!("this path takes {allowed}");
    let refusal = Refusal::new(Code::Unimplemented, ErrorReason::MethodUnknown, message);
    let failure = Failure::from(refusal).with_http(StatusCode::METHOD_NOT_ALLOWED);
    match HeaderValue::from_str(&allowed) {
        Ok(allowed) => failure.with_header(header::ALLOW, allowed),
        Err(_) => failure,
    }
}

/// What every answer has.
fn finish(response: &mut Response<Body>, method: &Method, id: &RequestId) {
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.as_header().clone());
    // Answers are somebody's own, and errors pass.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
