//! What happens around every call: request id, log, deadline, panics caught, and errors made complete.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode, header};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    error_details::{Origin, complete},
    request_id::{REQUEST_ID, RequestId},
    stream,
    unread::DrainedBody,
};
use crate::status::ApiError;

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// No RPC has a longer path.
const MAX_RPC_PATH: usize = 128;

/// Wraps all services of a server.
#[derive(Clone, Debug)]
pub struct CallLayer {
    timeout: Duration,
    max_header_bytes: usize,
    shutdown: CancellationToken,
}

impl CallLayer {
    /// Calls may take as long as `timeout`, or as the caller says, whichever is shorter. It counts until the answer
    /// begins: a stream may go on for longer, until the server ends. Their headers may have `max_header_bytes`, and an
    /// access token besides.
    #[must_use]
    pub fn new(timeout: Duration, max_header_bytes: usize, shutdown: CancellationToken) -> Self {
        Self { timeout, max_header_bytes, shutdown }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner, layer: self.clone() }
    }
}

/// The service of [`CallLayer`].
#[derive(Clone, Debug)]
pub struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let id = RequestId::of(request.headers());
        let span = tracing::info_span!("call", request_id = id.as_str(), rpc = rpc(request.uri().path()));
        let CallLayer { timeout, max_header_bytes, shutdown } = self.layer.clone();
        let limit = caller_timeout(request.headers()).map_or(timeout, |own| own.min(timeout));
        request.extensions_mut().insert(id.clone());
        let answered = async move {
            let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
            let refused = refused_by_headers(request.headers(), target, max_header_bytes);
            let response = answer(inner, request.map(DrainedBody::around), refused, limit, &id).await;
            Ok(response.map(|body| stream::finish(body, shutdown, id)))
        };
        Box::pin(answered.instrument(span))
    }
}

async fn answer<S>(
    mut inner: S,
    request: Request<Body>,
    refused: Option<Response<Body>>,
    limit: Duration,
    id: &RequestId,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    let begun = Instant::now();
    let call = async move {
        match refused {
            None => inner.call(request).await,
            Some(refused) => Ok(refused),
        }
    };
    let mut response = match timeout(limit, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(panic)) => Status::from(ApiError::internal(panic_text(&*panic))).into_http(),
        Err(_) => {
            let message = "the deadline has passed; the call may have taken effect";
            Status::from(ApiError::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message)).into_http()
        }
    };
    let code = complete(response.headers_mut(), id, Origin::Request);
    response.headers_mut().insert(REQUEST_ID, id.as_header().clone());
    let http = response.status().as_u16();
    let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(?code, http, elapsed_us, "answered");
    response
}

/// A path for the log, if it can be that of an RPC: `/package.Service/Method`. Any other may be anything, a secret that
/// somebody has put into the path of a URL, say.
fn rpc(path: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_rpc = path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(service, method)| {
        service.contains('.')
            && service.bytes().all(|byte| is_name(byte) || byte == b'.')
            && method.bytes().all(is_name)
    });
    if is_rpc && path.len() <= MAX_RPC_PATH { path } else { "none" }
}

/// The answer to a call whose headers are enough to refuse it: other content than gRPC's, with 415 (gRPC over HTTP/2,
/// requests), or more headers than are allowed. The access token does not count among them, so that one that is too
/// long is refused for what it is.
fn refused_by_headers(headers: &HeaderMap, target: usize, max_bytes: usize) -> Option<Response<Body>> {
    if !is_grpc(headers) {
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(refused);
    }
    let counted = headers.iter().filter(|(name, _)| **name != header::AUTHORIZATION);
    // As HTTP/2 counts them (RFC 9113, section 6.5.2).
    let bytes = target + counted.map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>();
    if bytes <= max_bytes {
        return None;
    }
    let message = format!("the headers are larger than {max_bytes} bytes");
    Some(Status::from(ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)).into_http())
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// The `grpc-timeout` of a call: at most eight digits and a unit.
fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// What a panic says, for the log.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a text"))
}
