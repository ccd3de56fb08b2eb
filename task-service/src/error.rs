//! Why this service refuses a call, beyond what service-kit knows.

use std::time::Duration;

use service_kit::status::Refusal;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// The caller has no such task. Nobody can tell from it whether somebody else has.
pub(crate) fn task_not_found() -> Refusal {
    Refusal::new(Code::NotFound, ErrorReason::TaskNotFound, "there is no such task")
}

/// The task or the list is no longer as the caller has seen it.
pub(crate) fn etag_mismatch() -> Refusal {
    Refusal::new(Code::Aborted, ErrorReason::EtagMismatch, "it has changed since the etag was read")
}

/// The caller has no such list. Nobody can tell from it whether somebody else has.
pub(crate) fn list_not_found() -> Refusal {
    Refusal::new(Code::NotFound, ErrorReason::ListNotFound, "there is no such list")
}

/// A request id belongs to one request.
pub(crate) fn request_id_reused() -> Refusal {
    let message = "the request id has come before, with another request";
    Refusal::new(Code::FailedPrecondition, ErrorReason::RequestIdReused, message).field("request_id", message)
}

/// The caller has as much as one may have.
pub(crate) fn quota_exceeded(message: &'static str) -> Refusal {
    Refusal::new(Code::ResourceExhausted, ErrorReason::QuotaExceeded, message)
}

/// The default list stays.
pub(crate) fn default_list() -> Refusal {
    Refusal::new(Code::FailedPrecondition, ErrorReason::DefaultList, "the default list cannot be deleted")
}

/// Not a sync token of this caller.
pub(crate) fn sync_token_invalid() -> Refusal {
    let message = "the sync token was not issued to this caller";
    Refusal::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, message).field("sync_token", message)
}

/// What happened since the sync token was issued is no longer known.
pub(crate) fn sync_token_expired() -> Refusal {
    let message = "the sync token is too old; begin anew without one";
    Refusal::new(Code::OutOfRange, ErrorReason::SyncTokenExpired, message).field("sync_token", message)
}

/// A filter cannot be read.
pub(crate) fn filter_invalid(fault: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {fault}")).field("filter", fault)
}

/// An order cannot be read.
pub(crate) fn order_by_invalid(fault: &str) -> Refusal {
    let message = format!("order_by: {fault}");
    Refusal::new(Code::InvalidArgument, ErrorReason::OrderByInvalid, message).field("order_by", fault)
}

/// The caller calls too often.
pub(crate) fn rate_limited(wait: Duration) -> Refusal {
    let message = "too many calls in a short time";
    Refusal::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}
