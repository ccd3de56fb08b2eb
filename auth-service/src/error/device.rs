//! The errors of devices and their codes.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::oauth;

/// Returns the error for a device about which the user has not decided.
pub fn pending() -> ApiError {
    let message = "the user has not decided about the device yet";
    let error = ApiError::new(Code::FailedPrecondition, ErrorReason::AuthorizationPending, message);
    oauth(error, "authorization_pending")
}

/// Returns the error for a device that the user has refused.
pub fn denied() -> ApiError {
    let message = "the user has refused the device";
    oauth(ApiError::new(Code::PermissionDenied, ErrorReason::AuthorizationDenied, message), "access_denied")
}

/// Returns the error for a device code that has expired.
pub fn code_expired() -> ApiError {
    let message = "the device code has expired; ask for new codes";
    oauth(ApiError::new(Code::InvalidArgument, ErrorReason::DeviceCodeExpired, message), "expired_token")
}

/// Returns the error for a device that polls before the interval has passed.
pub fn polls_too_often(interval: Duration) -> ApiError {
    let message = "the device polls too often; the interval is 5 s longer now";
    oauth(
        ApiError::limit_exceeded("device_polls", ErrorReason::RateLimited, message).retry_after(interval),
        "slow_down",
    )
}

/// Returns the error for a device that asks for codes when too many wait.
pub fn too_many() -> ApiError {
    let message = "too many devices wait for the decision of a user";
    ApiError::limit_exceeded("waiting_devices", ErrorReason::Overloaded, message).retry_after(Duration::from_secs(60))
}

/// Returns the error for a user code with which no device waits.
pub fn user_code_invalid() -> ApiError {
    let message = "no device waits with this code";
    ApiError::new(Code::NotFound, ErrorReason::UserCodeInvalid, message)
}

/// Returns the error for an account that has sent too many user codes.
pub fn too_many_user_codes(wait: Duration) -> ApiError {
    let message = "too many codes of devices for this account; try again later";
    ApiError::limit_exceeded("user_codes", ErrorReason::RateLimited, message).retry_after(wait)
}
