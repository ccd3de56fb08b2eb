//! Why this service refuses a call, beyond what service-kit knows.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// The caller has no such task. Nobody can tell from it whether somebody else has.
pub(crate) fn task_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "the task does not exist")
}

/// The task or the list is no longer as the caller has seen it.
pub(crate) fn etag_mismatch() -> ApiError {
    ApiError::new(Code::Aborted, ErrorReason::EtagMismatch, "the resource has changed since the etag was read")
}

/// The caller has no such list. Nobody can tell from it whether somebody else has.
pub(crate) fn list_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::ListNotFound, "the list does not exist")
}

/// A request id belongs to one request.
pub(crate) fn request_id_reused() -> ApiError {
    let message = "the request id was already used with a different request";
    ApiError::new(Code::FailedPrecondition, ErrorReason::RequestIdReused, message).field("request_id", message)
}

/// The caller has as much as one may have.
pub(crate) fn quota_exceeded(message: &'static str) -> ApiError {
    ApiError::new(Code::ResourceExhausted, ErrorReason::QuotaExceeded, message)
}

/// The default list stays.
pub(crate) fn default_list() -> ApiError {
    ApiError::new(Code::FailedPrecondition, ErrorReason::DefaultList, "the default list cannot be deleted")
}

/// Not a sync token of this caller.
pub(crate) fn sync_token_invalid() -> ApiError {
    let message = "the sync token was not issued to this caller";
    ApiError::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, message).field("sync_token", message)
}

/// What happened since the sync token was issued is no longer known.
pub(crate) fn sync_token_expired() -> ApiError {
    let message = "the sync token is too old; start again without a token";
    ApiError::new(Code::OutOfRange, ErrorReason::SyncTokenExpired, message).field("sync_token", message)
}

/// A filter cannot be read.
pub(crate) fn filter_invalid(fault: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {fault}")).field("filter", fault)
}

/// An order cannot be read.
pub(crate) fn order_by_invalid(fault: &str) -> ApiError {
    let message = format!("order_by: {fault}");
    ApiError::new(Code::InvalidArgument, ErrorReason::OrderByInvalid, message).field("order_by", fault)
}

/// The caller calls too often.
pub(crate) fn rate_limited(wait: Duration) -> ApiError {
    let message = "too many calls in a short time";
    ApiError::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}
