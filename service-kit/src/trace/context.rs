//! The trace context in the headers of requests: `traceparent` and `tracestate` (W3C Trace Context).

use http::{Extensions, HeaderMap, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::tls::TlsInfo;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A longer `tracestate` is ignored. The specification requires to propagate at least 512 characters.
const MAX_STATE_BYTES: usize = 512;

/// The length of a `traceparent` of version 00; those of later versions may be longer. The SDK (0.33) also accepts shorter
/// ids.
const PARENT_BYTES: usize = 55;

/// Returns the span of the caller, if the headers contain exactly one that is valid.
pub(super) fn extract(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next().filter(|_| parents.next().is_none())?.to_str().ok()?;
    if parent.len() < PARENT_BYTES || parent.starts_with("00") && parent.len() > PARENT_BYTES {
        return None;
    }
    let incoming = Incoming { parent, state: state(headers) };
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &incoming);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// Joins the `tracestate` headers (RFC 9110, section 5.3). Returns an empty text if they are too long.
fn state(headers: &HeaderMap) -> String {
    let values: Option<Vec<_>> = headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
    values.map(|values| values.join(",")).filter(|state| state.len() <= MAX_STATE_BYTES).unwrap_or_default()
}

struct Incoming<'a> {
    parent: &'a str,
    state: String,
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == TRACEPARENT {
            Some(self.parent)
        } else {
            Some(&*self.state).filter(|state| key == TRACESTATE && !state.is_empty())
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// Replaces the trace context of a request.
pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    TraceContextPropagator::new().inject_context(context, &mut Outgoing(headers));
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = if key == TRACEPARENT { TRACEPARENT } else { TRACESTATE };
        if let Some(value) = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty()) {
            self.0.insert(name, value);
        }
    }
}

/// Reports whether the caller has a verified certificate, as services have.
pub(super) fn has_certificate(extensions: &Extensions) -> bool {
    extensions.get::<TlsInfo>().is_some_and(|tls| tls.peer.is_some())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |text: &str| HeaderValue::from_str(text).expect("valid");
        values.iter().map(|(name, value)| (HeaderName::from_static(name), parse(value))).collect()
    }

    #[test]
    fn context_is_passed_on_with_the_joined_state() {
        let received = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]);
        let caller = extract(&received).expect("valid");
        let context = Context::new().with_remote_span_context(caller);
        let mut sent = headers(&[(TRACEPARENT, "of the client"), (TRACESTATE, "of=client")]);
        inject(&context, &mut sent);
        assert_eq!(sent, headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")]));
    }

    #[test]
    fn invalid_and_repeated_parents_are_ignored() {
        for parent in ["", "00", &PARENT[..54], &PARENT.to_uppercase(), &PARENT.replace("0af7651916cd43dd", "zz")] {
            assert_eq!(extract(&headers(&[(TRACEPARENT, parent)])), None, "{parent}");
        }
        assert_eq!(extract(&headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)])), None);
        assert_eq!(extract(&HeaderMap::new()), None);
    }

    #[test]
    fn state_that_is_too_long_is_ignored() {
        let long = format!("a={}", "x".repeat(MAX_STATE_BYTES));
        let caller = extract(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, &long)])).expect("valid");
        assert_eq!(caller.trace_state().header(), "");
    }
}
