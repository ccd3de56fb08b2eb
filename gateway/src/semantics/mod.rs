//! HTTP semantics of RPCs: entity tags, idempotency, and preferences (RFC 9110, RFC 7240).

pub mod etag;
pub mod idempotency;
pub mod preference;
