//! The spans of calls: of those that a server receives, and of those that it makes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use opentelemetry::{
    Context as SpanParent, KeyValue, StringValue,
    trace::{SpanBuilder, SpanKind, TraceId},
};
use tokio::time::timeout;
use tonic::{Code, Status, body::Body};

use super::{
    context::{extract, has_certificate, inject},
    span::{Span, current, is_enabled},
};

/// How long a call waits until the service token of its caller is checked. Then the trace of the caller is not continued.
const CHECK_LIMIT: Duration = Duration::from_millis(250);

/// Determines which callers are services, whose traces are continued. A verified certificate is sufficient without this.
pub trait ServicePeers: fmt::Debug + Send + Sync {
    /// Reports whether the headers contain the valid token of a service.
    fn have_service_token<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, bool>;
}

/// The name of an RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// Without the slash at the beginning, as the conventions of OpenTelemetry require.
    name: StringValue,
    service: StringValue,
    method: StringValue,
}

impl Rpc {
    /// Creates the name of a method of a service.
    #[must_use]
    pub fn new(service: &str, method: &str) -> Self {
        let text = |text: &str| StringValue::from(Arc::<str>::from(text));
        Self { name: text(&format!("{service}/{method}")), service: text(service), method: text(method) }
    }

    /// Parses the path `/package.Service/Method`.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        Some(Self::new(service, method))
    }

    /// Returns the attributes of its spans.
    fn attributes(&self) -> [KeyValue; 3] {
        [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", self.service.clone()),
            KeyValue::new("rpc.method", self.method.clone()),
        ]
    }

    fn span(&self, kind: SpanKind) -> SpanBuilder {
        SpanBuilder::from_name(self.name.as_str().to_owned()).with_kind(kind).with_attributes(self.attributes())
    }
}

/// The span of a call. If it is dropped before [`end`](Self::end), the caller has cancelled the call.
#[derive(Debug, Default)]
pub struct CallSpan {
    span: Span,
    /// Whether this process makes the call.
    is_client: bool,
    has_ended: bool,
}

impl CallSpan {
    /// Starts the span of a call that a server has received. Continues the trace of the caller if it is a service.
    pub async fn server(
        rpc: &Rpc,
        extensions: &Extensions,
        headers: &HeaderMap,
        peers: Option<&dyn ServicePeers>,
    ) -> Self {
        if !is_enabled() {
            return Self::default();
        }
        let caller = extract(headers);
        let is_trusted = caller.is_some() && is_service(extensions, headers, peers).await;
        let span = Span::root(|| rpc.span(SpanKind::Server), caller, is_trusted);
        Self { span, is_client: false, has_ended: false }
    }

    /// Starts the span of a call that this process makes, and replaces the trace context in its headers.
    pub fn client<B>(request: &mut Request<B>) -> Self {
        let Some(parent) = current() else { return Self::default() };
        let span = Span::child(|| match Rpc::from_path(request.uri().path()) {
            Some(rpc) => rpc.span(SpanKind::Client),
            None => SpanBuilder::from_name("call").with_kind(SpanKind::Client),
        });
        // A trace that is not sampled has no span, but services must know that it is not.
        inject(&span.context().unwrap_or(parent), request.headers_mut());
        Self { span, is_client: true, has_ended: false }
    }

    /// Starts the span of a call to a service that no other call has caused, as the first one of a trace, and adds the
    /// trace context to its metadata.
    pub fn background<M>(service: &str, method: &str, request: &mut tonic::Request<M>) -> Self {
        if !is_enabled() {
            return Self::default();
        }
        let span = Span::root(|| Rpc::new(service, method).span(SpanKind::Client), None, false);
        if let Some(context) = span.context() {
            inject(&context, request.metadata_mut().as_mut());
        }
        Self { span, is_client: true, has_ended: false }
    }

    /// Ends the span with the outcome of the call.
    ///
    /// # Errors
    /// That of the call.
    pub fn observe<T>(mut self, outcome: Result<T, Status>) -> Result<T, Status> {
        self.end(outcome.as_ref().err().map_or(Code::Ok, Status::code));
        outcome
    }

    /// Returns the context in which the span is the current one.
    #[must_use]
    pub fn context(&self) -> Option<SpanParent> {
        self.span.context()
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.span.trace_id()
    }

    /// Ends the span with the status code of the call, once.
    pub fn end(&mut self, code: Code) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        let span = std::mem::take(&mut self.span);
        span.set(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        if is_error(code, self.is_client) {
            span.set_failed();
        }
    }

    /// Ends the span when the response ends.
    #[must_use]
    pub fn until_end_of(mut self, response: Response<Body>) -> Response<Body> {
        if self.span.is_empty() {
            return response;
        }
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.end(status.code());
        }
        response.map(|body| Body::new(TracedBody { body, span: self }))
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

async fn is_service(extensions: &Extensions, headers: &HeaderMap, peers: Option<&dyn ServicePeers>) -> bool {
    if has_certificate(extensions) {
        return true;
    }
    match peers {
        Some(peers) => timeout(CHECK_LIMIT, peers.have_service_token(headers)).await.unwrap_or(false),
        None => false,
    }
}

/// Reports whether a call has failed, according to the conventions of OpenTelemetry: to a client, every error is a failure;
/// to a server, only those that are not the fault of the client.
fn is_error(code: Code, is_client: bool) -> bool {
    match code {
        Code::Ok => false,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        _ => is_client,
    }
}

/// The body of a response whose end is that of a span.
struct TracedBody {
    body: Body,
    span: CallSpan,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.span.end(status.code());
                }
            }
            Poll::Ready(Some(Err(status))) => self.span.end(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
