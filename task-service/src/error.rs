//! Errors of this service, in addition to those of service-kit.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// Returns the error for a task that does not exist or belongs to another user. Callers cannot distinguish the two.
pub(crate) fn task_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "the task does not exist")
}

/// Returns the error for an invalid field, by its path in the request.
pub(crate) fn validation_failed(path: &str, description: &str) -> ApiError {
    let message = format!("{path}: {description}");
    ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message).field(path, description)
}

/// Returns the error for a task or list that has changed since the caller read it.
pub(crate) fn etag_mismatch() -> ApiError {
    ApiError::new(Code::Aborted, ErrorReason::EtagMismatch, "the resource has changed since the etag was read")
}

/// Returns the error for a list that does not exist or belongs to another user. Callers cannot distinguish the two.
pub(crate) fn list_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::ListNotFound, "the list does not exist")
}

/// Returns the error for an id that another task or list of the caller has.
pub(crate) fn task_id_taken() -> ApiError {
    ApiError::new(Code::AlreadyExists, ErrorReason::TaskIdTaken, "another task or list of the caller has this id")
}

/// Returns the error for a request id that was used with a different request.
pub(crate) fn request_id_reused() -> ApiError {
    let message = "the request id was already used with a different request";
    ApiError::new(Code::FailedPrecondition, ErrorReason::RequestIdReused, message).field("request_id", message)
}

/// Returns the error for a caller that has reached a limit.
pub(crate) fn quota_exceeded(message: &'static str) -> ApiError {
    ApiError::new(Code::ResourceExhausted, ErrorReason::QuotaExceeded, message)
}

/// Returns the error for a request to delete the default list.
pub(crate) fn default_list_not_deletable() -> ApiError {
    ApiError::new(Code::FailedPrecondition, ErrorReason::DefaultList, "the default list cannot be deleted")
}

/// Returns the error for a sync token that was not issued to this caller.
pub(crate) fn sync_token_invalid() -> ApiError {
    let message = "the sync token was not issued to this caller";
    ApiError::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, message).field("sync_token", message)
}

/// Returns the error for a sync token from before the oldest stored tombstone, or from after the last change.
pub(crate) fn sync_token_expired() -> ApiError {
    let message = "the sync token is too old; start again without a token";
    ApiError::new(Code::OutOfRange, ErrorReason::SyncTokenExpired, message).field("sync_token", message)
}

/// Returns the error for an invalid filter. `path` is its path in the request.
pub(crate) fn filter_invalid(path: &'static str, problem: &str) -> ApiError {
    let message = format!("{path}: {problem}");
    ApiError::new(Code::InvalidArgument, ErrorReason::FilterInvalid, message).field(path, problem)
}

/// Returns the error for an invalid order.
pub(crate) fn order_by_invalid(problem: &str) -> ApiError {
    let message = format!("order_by: {problem}");
    ApiError::new(Code::InvalidArgument, ErrorReason::OrderByInvalid, message).field("order_by", problem)
}

/// Returns the error for a caller that exceeds its rate limit of rows.
pub(crate) fn row_rate_limited(wait: Duration) -> ApiError {
    let message = "too many tasks and lists written in a short time";
    ApiError::limit_exceeded("row_rate", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for a webhook that does not exist or belongs to another user. Callers cannot distinguish the two.
pub(crate) fn webhook_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::WebhookNotFound, "the webhook does not exist")
}

/// Returns the error for a new webhook whose sync token was not issued to the caller.
pub(crate) fn webhook_sync_token_invalid() -> ApiError {
    let message = "the sync token was not issued to this caller";
    ApiError::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, message).field("webhook.sync_token", message)
}

/// Returns the error for a server that cannot encrypt or decrypt the secrets of webhooks.
pub(crate) fn webhooks_disabled() -> ApiError {
    let message = "the server has no key for the secrets of webhooks; ask its operator to set --webhook-key-file";
    ApiError::new(Code::FailedPrecondition, ErrorReason::WebhooksDisabled, message)
}

/// Returns the error for a reminder that the task does not have.
pub(crate) fn reminder_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::ReminderNotFound, "the task has no reminder with this id")
}

/// Returns the error for an acknowledgement of a reminder that has not fired.
pub(crate) fn reminder_not_fired() -> ApiError {
    ApiError::new(Code::FailedPrecondition, ErrorReason::ReminderNotFired, "the reminder has not fired")
}

/// Returns the error for a caller that tests webhooks too often.
pub(crate) fn webhook_tests_rate_limited(wait: Duration) -> ApiError {
    let message = "too many tests of webhooks in a short time";
    ApiError::limit_exceeded("webhook_test", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for a caller that moves the positions of webhooks too often.
pub(crate) fn webhook_redeliveries_rate_limited(wait: Duration) -> ApiError {
    let message = "too many redeliveries of webhooks in a short time";
    ApiError::limit_exceeded("webhook_redelivery", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for a task without an occurrence that could be skipped or stopped.
pub(crate) fn task_not_recurring(message: &'static str) -> ApiError {
    ApiError::new(Code::FailedPrecondition, ErrorReason::TaskNotRecurring, message)
}
