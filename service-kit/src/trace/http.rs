//! The spans of requests to the gateway.

use http::{Extensions, HeaderMap, Method, StatusCode};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, TraceId},
};

use super::{
    context::{extract, has_certificate},
    span::{Span, is_enabled},
};

/// The methods that attributes contain. Others are `_OTHER`, as the conventions of OpenTelemetry require.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The span of a request. It ends when the response begins.
#[derive(Debug, Default)]
pub struct HttpSpan {
    span: Span,
    method: &'static str,
}

impl HttpSpan {
    /// Starts the span of a request. Continues the trace of a client that has a verified certificate. The attributes do not
    /// contain the path, which may contain a secret.
    #[must_use]
    pub fn start(method: &Method, extensions: &Extensions, headers: &HeaderMap) -> Self {
        if !is_enabled() {
            return Self::default();
        }
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER");
        let build = || {
            let attributes = [KeyValue::new("http.request.method", method)];
            SpanBuilder::from_name(method).with_kind(SpanKind::Server).with_attributes(attributes)
        };
        let is_trusted = has_certificate(extensions);
        Self { span: Span::root(build, extract(headers), is_trusted), method }
    }

    /// Returns the context in which the span is the current one.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        self.span.context()
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.span.trace_id()
    }

    /// Ends the span. `route` is the template of the path, if there is one.
    pub fn end(self, route: Option<&str>, code: StatusCode) {
        if self.span.is_empty() {
            return;
        }
        if let Some(route) = route {
            self.span.rename(format!("{} {route}", self.method));
            self.span.set(KeyValue::new("http.route", route.to_owned()));
        }
        self.span.set(KeyValue::new("http.response.status_code", i64::from(code.as_u16())));
        if code.is_server_error() {
            self.span.set_failed();
        }
    }
}
