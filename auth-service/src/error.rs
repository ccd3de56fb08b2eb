//! The refusals of this service.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// A wrong password, an unknown account and a disabled account are indistinguishable.
pub fn credentials_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::CredentialsInvalid, "the email or the password is wrong")
}

/// Too many passwords were wrong. The same for addresses without an account.
pub fn too_many_guesses(wait: Duration) -> ApiError {
    let message = "too many wrong passwords; try again later";
    ApiError::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}

/// An address has done something too often.
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

/// The address has an account.
pub fn email_taken() -> ApiError {
    ApiError::new(Code::AlreadyExists, ErrorReason::EmailTaken, "an account with this email exists")
        .field("email", "already has an account")
}

/// A new password breaks a rule.
pub fn password_rejected(field: &str, fault: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::PasswordRejected, format!("the password {fault}"))
        .field(field, fault)
}

/// Not a token of a live session.
pub fn refresh_token_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// The token was used before; its session has been ended.
pub fn refresh_token_reused() -> ApiError {
    let message = "the refresh token was already used; its session has been revoked";
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenReused, message)
}

/// The same client has gone on with a newer token.
pub fn refresh_token_superseded() -> ApiError {
    let message = "a newer refresh token of the session has been used";
    ApiError::new(Code::Aborted, ErrorReason::RefreshTokenSuperseded, message)
}

/// The caller has no such live session.
pub fn session_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::SessionNotFound, "the session does not exist")
}

/// Nobody would be left who can administer accounts.
pub fn last_admin() -> ApiError {
    let message = "no account with the role `admin` would be left";
    ApiError::new(Code::FailedPrecondition, ErrorReason::LastAdmin, message)
}

/// A filter cannot be read.
pub fn filter_invalid(fault: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {fault}")).field("filter", fault)
}

/// There is no such account, or the one of the access token is no more.
pub fn user_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::UserNotFound, "the account does not exist")
}
