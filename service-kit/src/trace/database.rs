//! The spans of databases.

use opentelemetry::{
    KeyValue,
    trace::{SpanBuilder, SpanKind},
};

use super::span::{Span, step};

/// Longer statements are cut, such as inserts of many rows.
const MAX_TEXT_BYTES: usize = 1024;

/// The operations that are names of spans.
const OPERATIONS: [&str; 5] = ["select", "insert", "update", "delete", "with"];

/// Starts the span of a statement. Its text contains no values, because these are arguments. `system` is the engine.
pub(crate) fn statement(system: &'static str, text: &str) -> Span {
    Span::child(|| {
        let text = text.trim();
        let operation = OPERATIONS.into_iter().find(|operation| text.starts_with(operation));
        let attributes = [KeyValue::new("db.system", system), KeyValue::new("db.query.text", cut(text).to_owned())];
        SpanBuilder::from_name(operation.unwrap_or("statement")).with_kind(SpanKind::Client).with_attributes(attributes)
    })
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// Starts the span of the wait for a connection, or on SQLite for the thread that executes the call.
pub(crate) fn wait_for_connection() -> Span {
    step("wait for connection")
}

/// Starts the span of a commit. On SQLite, it includes the other writes that share the commit.
pub(crate) fn commit(system: &'static str) -> Span {
    Span::child(|| {
        let attributes = [KeyValue::new("db.system", system)];
        SpanBuilder::from_name("commit").with_kind(SpanKind::Client).with_attributes(attributes)
    })
}
