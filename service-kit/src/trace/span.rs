//! Spans, and which one is current.

use std::sync::OnceLock;

use futures::future::Either;
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    trace::{
        FutureExt, Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, TraceState, Tracer,
        WithContext,
    },
};
use opentelemetry_sdk::trace::SdkTracer;

/// Creates the spans of this process. Not set while traces are off.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Begins to create spans.
///
/// # Errors
/// If this was called before.
pub(super) fn install(tracer: SdkTracer) -> anyhow::Result<()> {
    TRACER.set(tracer).map_err(|_| anyhow::anyhow!("traces are recorded already"))
}

/// Reports whether traces are on.
#[must_use]
pub fn is_enabled() -> bool {
    TRACER.get().is_some()
}

/// Returns the context that contains the current span, if there is one. Its trace may not be sampled.
#[must_use]
pub fn current() -> Option<Context> {
    TRACER.get()?;
    Some(Context::current()).filter(Context::has_active_span)
}

/// Runs a future in the context of a span, if there is one.
pub fn in_context<F: Future>(context: Option<Context>, future: F) -> Either<WithContext<F>, F> {
    match context {
        Some(context) => Either::Left(future.with_context(context)),
        None => Either::Right(future),
    }
}

/// Makes the span of a context the current one of this thread, until the value is dropped.
#[must_use]
pub(crate) fn enter(context: Option<Context>) -> Option<ContextGuard> {
    context.map(Context::attach)
}

/// Starts a span for a step of a call, such as the wait in a queue.
pub fn step(name: &'static str) -> Span {
    Span::child(|| SpanBuilder::from_name(name).with_kind(SpanKind::Internal))
}

/// A span, which ends when it is dropped. Empty if traces are off.
#[derive(Debug, Default)]
#[must_use]
pub struct Span(Option<Context>);

impl Span {
    /// Starts a child of the current span, if its trace is sampled. `build` returns the name and the attributes.
    pub(super) fn child(build: impl FnOnce() -> SpanBuilder) -> Self {
        let parent = current().filter(|parent| parent.span().span_context().is_sampled());
        Self(parent.zip(TRACER.get()).map(|(parent, tracer)| {
            let span = tracer.build_with_context(build(), &parent);
            parent.with_span(span)
        }))
    }

    /// Starts the first span of this process. Continues the trace of the caller if it is trusted; otherwise begins a new
    /// trace, which has a link to that of the caller, so that callers decide neither about the ids nor about sampling.
    pub(super) fn root(build: impl FnOnce() -> SpanBuilder, caller: Option<SpanContext>, is_trusted: bool) -> Self {
        Self(TRACER.get().map(|tracer| {
            let (parent, builder) = match caller {
                Some(caller) if is_trusted => (Context::new().with_remote_span_context(caller), build()),
                Some(caller) => (Context::new(), build().with_links(vec![link(&caller)])),
                None => (Context::new(), build()),
            };
            let span = tracer.build_with_context(builder, &parent);
            parent.with_span(span)
        }))
    }

    /// Reports whether there is no span.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the context in which the span is the current one.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        self.0.clone()
    }

    /// Returns the id of the trace, also if it is not sampled.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|context| context.span().span_context().trace_id())
    }

    /// Sets an attribute.
    pub(super) fn set(&self, attribute: KeyValue) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(attribute);
        }
    }

    /// Sets the name.
    pub(super) fn rename(&self, name: String) {
        if let Some(context) = &self.0 {
            context.span().update_name(name);
        }
    }

    /// Ends the span with the outcome of its operation.
    pub(crate) fn observe<T, E>(self, outcome: Result<T, E>) -> Result<T, E> {
        outcome.inspect_err(|_| self.set_failed())
    }

    /// Marks the operation as failed. The span has no message, because that of an error may contain data of users.
    pub(crate) fn set_failed(&self) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Returns a link without the `tracestate`, which can contain anything.
fn link(caller: &SpanContext) -> Link {
    let (trace, span, flags) = (caller.trace_id(), caller.span_id(), caller.trace_flags());
    Link::with_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}
