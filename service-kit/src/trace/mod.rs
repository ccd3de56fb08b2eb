//! Traces in the format of OpenTelemetry: one span for each call, HTTP request, SQL statement and wait. They are sent to a
//! collector over gRPC (OTLP). Without a collector, no span is created, and nothing is slower.
//!
//! Spans are those of OpenTelemetry and not of `tracing`, whose spans exist for the log: so the filter of the log does not
//! decide what is traced, and attributes of spans are not repeated in each line of the log.
//!
//! # Layout
//! - `args`: the settings, and the start and the end of the export. `export`: sends spans, and counts those that are lost.
//! - `span`: spans, and which one is current. `context`: the trace context in headers (W3C Trace Context).
//! - `call`, `http`, `database`: the spans of calls, requests to the gateway, and databases.

mod args;
mod call;
mod context;
mod database;
mod export;
mod http;
mod span;

pub use opentelemetry::Context;

pub use args::{TraceArgs, Traces};
pub use call::{CallSpan, Rpc, ServicePeers};
pub(crate) use database::{commit, statement, wait_for_connection};
pub use http::HttpSpan;
pub(crate) use span::enter;
pub use span::{Span, current, in_context, is_enabled, step};
