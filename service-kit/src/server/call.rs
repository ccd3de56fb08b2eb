//! The layer around every call: assigns the request id, logs, limits the time, catches panics, and completes errors.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use http::{Extensions, HeaderMap, Request, Response, StatusCode, header};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, field};

use super::{
    body::{self, DrainedBody},
    call_metrics::{CallMetrics, CallRecord},
    connection_state::ConnectionState,
    error_details::{Completed, Origin, complete},
    request_id::{REQUEST_ID, RequestId},
};
use crate::{
    status::ApiError,
    trace::{self, CallSpan, ServicePeers},
};

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Maximum time of a call whose requests are a stream, such as a large file. A stream that stalls ends earlier.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Maximum length of a path in the log.
const MAX_LOGGED_PATH_BYTES: usize = 128;

/// Wraps all services of a server.
#[derive(Clone, Debug)]
pub struct CallLayer {
    timeout: Duration,
    max_header_bytes: usize,
    shutdown: CancellationToken,
    metrics: Arc<CallMetrics>,
    /// The callers whose traces are continued, in addition to those with a certificate.
    peers: Option<Arc<dyn ServicePeers>>,
}

impl CallLayer {
    /// Creates a layer that limits calls to `timeout` or the timeout of the caller, whichever is shorter. It applies
    /// until the response starts: a stream may last until the server shuts down. The headers may have
    /// `max_header_bytes`, not counting the access token.
    #[must_use]
    pub fn new(
        timeout: Duration,
        max_header_bytes: usize,
        shutdown: CancellationToken,
        metrics: Arc<CallMetrics>,
    ) -> Self {
        Self { timeout, max_header_bytes, shutdown, metrics, peers: None }
    }

    /// Continues the traces of these callers, too.
    #[must_use]
    pub fn with_service_peers(self, peers: Option<Arc<dyn ServicePeers>>) -> Self {
        Self { peers, ..self }
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
        // `poll_ready` has prepared this instance, not its clone.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let id = RequestId::from_headers(request.headers());
        let rpc = loggable_path(request.uri().path());
        // The interceptor sets `user_id` and `actor_id`, if a service acts on behalf of a user.
        let span = tracing::info_span!(
            "call",
            request_id = id.as_str(),
            rpc,
            trace_id = field::Empty,
            user_id = field::Empty,
            actor_id = field::Empty,
        );
        let CallLayer { timeout, max_header_bytes, shutdown, metrics, peers } = self.layer.clone();
        let mut record = metrics.start(request.uri().path());
        let end_of_streams = ConnectionState::end_of_streams(request.extensions(), &shutdown);
        let timeout = if record.receives_stream() { timeout.max(UPLOAD_TIMEOUT) } else { timeout };
        let limit = caller_timeout(request.headers()).map_or(timeout, |requested| requested.min(timeout));
        request.extensions_mut().insert(id.clone());
        let response = async move {
            let target_bytes = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
            let rejection = reject_by_headers(request.headers(), target_bytes, max_header_bytes);
            let context = start_span(&mut record, request.extensions(), request.headers(), peers.as_deref()).await;
            let respond = respond(inner, request.map(DrainedBody::wrap), rejection, limit, &id, record);
            let (response, record) = trace::in_context(context, respond).await;
            Ok(response.map(|body| body::finish(body, end_of_streams, id, record)))
        };
        Box::pin(response.instrument(span))
    }
}

/// Starts the span of a call, if it is traced, and adds the id of the trace to the log. Returns the context of the span.
async fn start_span(
    record: &mut CallRecord,
    extensions: &Extensions,
    headers: &HeaderMap,
    peers: Option<&dyn ServicePeers>,
) -> Option<trace::Context> {
    let rpc = record.traced_rpc().filter(|_| trace::is_enabled())?;
    let span = CallSpan::server(rpc, extensions, headers, peers).await;
    if let Some(id) = span.trace_id() {
        tracing::Span::current().record("trace_id", field::display(id));
    }
    let context = span.context();
    record.set_span(span);
    context
}

async fn respond<S>(
    mut inner: S,
    request: Request<Body>,
    rejection: Option<Response<Body>>,
    limit: Duration,
    id: &RequestId,
    mut record: CallRecord,
) -> (Response<Body>, CallRecord)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    let call = async move {
        match rejection {
            None => inner.call(request).await,
            Some(rejection) => Ok(rejection),
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
    let ended = complete(response.headers_mut(), id, Origin::Request);
    response.headers_mut().insert(REQUEST_ID, id.as_header().clone());
    let http = response.status().as_u16();
    let elapsed_us = u64::try_from(record.elapsed().as_micros()).unwrap_or(u64::MAX);
    let code = ended.as_ref().map_or(Code::Ok, |ended| ended.code);
    tracing::debug!(?code, http, elapsed_us, "call completed");
    match ended {
        Some(Completed { code, reason }) => record.end(code, reason.as_deref()),
        // Not a call of gRPC.
        None if response.status() != StatusCode::OK => record.end(Code::InvalidArgument, None),
        // The code is in the trailers.
        None => {}
    }
    (response, record)
}

/// Returns the path for the log if it has the format of an RPC: `/package.Service/Method`. Other paths are not logged,
/// because they may contain secrets.
fn loggable_path(path: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_rpc = path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(service, method)| {
        service.contains('.')
            && service.bytes().all(|byte| is_name(byte) || byte == b'.')
            && method.bytes().all(is_name)
    });
    if is_rpc && path.len() <= MAX_LOGGED_PATH_BYTES { path } else { "none" }
}

/// Returns the response to a call that is rejected because of its headers: HTTP 415 if the content type is not that of
/// gRPC (PROTOCOL-HTTP2.md of gRPC, section "Requests"), or an error if the headers are too large. The access token is
/// not counted, so that an oversized token is rejected as an invalid token.
fn reject_by_headers(headers: &HeaderMap, target_bytes: usize, max_bytes: usize) -> Option<Response<Body>> {
    if !is_grpc(headers) {
        let mut rejection = Response::new(Body::empty());
        *rejection.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(rejection);
    }
    let counted_headers = headers.iter().filter(|(name, _)| **name != header::AUTHORIZATION);
    // The size as defined by HTTP/2 (RFC 9113, section 6.5.2).
    let header_bytes: usize = counted_headers.map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let bytes = target_bytes + header_bytes;
    if bytes <= max_bytes {
        return None;
    }
    let message = format!("the headers are larger than {max_bytes} bytes");
    Some(Status::from(ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)).into_http())
}

/// Reports whether the content type is that of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// Parses the `grpc-timeout` of a call: at most eight digits and a unit.
#[must_use]
pub fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
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

/// Returns the message of a panic, for the log.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("no message"))
}
