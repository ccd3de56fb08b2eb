//! The API errors of this service.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// The login failed. A wrong password, an unknown account and a disabled account have the same error.
pub fn credentials_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::CredentialsInvalid, "the email or the password is wrong")
}

/// Too many passwords were wrong. Addresses without an account have the same error.
pub fn too_many_wrong_passwords(wait: Duration) -> ApiError {
    let message = "too many wrong passwords; try again later";
    ApiError::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}

/// An IP address has exceeded a rate limit.
pub fn too_many_calls(wait: Duration) -> ApiError {
    let message = "too many calls from this address; try again later";
    ApiError::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}

/// The current password in the request is wrong.
pub fn current_password_wrong() -> ApiError {
    let message = "the current password is wrong";
    ApiError::new(Code::PermissionDenied, ErrorReason::CredentialsInvalid, message)
        .field("current_password", "is wrong")
}

/// The email address already has an account.
pub fn email_taken() -> ApiError {
    ApiError::new(Code::AlreadyExists, ErrorReason::EmailTaken, "an account with this email exists")
        .field("email", "already has an account")
}

/// A new password breaks a rule.
pub fn password_rejected(field: &str, violation: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::PasswordRejected, format!("the password {violation}"))
        .field(field, violation)
}

/// The refresh token does not belong to an active session.
pub fn refresh_token_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// The token was already used; its session has been revoked.
pub fn refresh_token_reused() -> ApiError {
    let message = "the refresh token was already used; its session has been revoked";
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenReused, message)
}

/// The client has already used a newer token of the session.
pub fn refresh_token_superseded() -> ApiError {
    let message = "a newer refresh token of the session has been used";
    ApiError::new(Code::Aborted, ErrorReason::RefreshTokenSuperseded, message)
}

/// The caller has no active session with this id.
pub fn session_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::SessionNotFound, "the session does not exist")
}

/// No administrator would be left.
pub fn last_admin() -> ApiError {
    let message = "no account with the role `admin` would be left";
    ApiError::new(Code::FailedPrecondition, ErrorReason::LastAdmin, message)
}

/// A filter is invalid.
pub fn filter_invalid(problem: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {problem}"))
        .field("filter", problem)
}

/// The account does not exist, or the account of the access token was deleted.
pub fn user_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::UserNotFound, "the account does not exist")
}
