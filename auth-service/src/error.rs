//! The refusals of this service.

use std::time::Duration;

use service_kit::status::Refusal;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// Wrong password, unknown account and disabled account are not told apart.
pub fn credentials_invalid() -> Refusal {
    Refusal::new(Code::Unauthenticated, ErrorReason::CredentialsInvalid, "the email or the password is wrong")
}

/// Too many passwords were wrong lately. Whether the address has an account makes no difference.
pub fn too_many_guesses(wait: Duration) -> Refusal {
    let message = "too many wrong passwords; the next one is not tried before some time has passed";
    Refusal::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}

/// An address has done something too often.
pub fn too_many_calls(wait: Duration) -> Refusal {
    let message = "too many such calls have come from this address lately";
    Refusal::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(wait)
}

/// Whoever is signed in gives another password than the one of the account.
pub fn current_password_wrong() -> Refusal {
    let message = "the current password is wrong";
    Refusal::new(Code::PermissionDenied, ErrorReason::CredentialsInvalid, message).field("current_password", "is wrong")
}

/// The address has an account.
pub fn email_taken() -> Refusal {
    Refusal::new(Code::AlreadyExists, ErrorReason::EmailTaken, "an account with this email exists")
        .field("email", "has an account already")
}

/// A new password breaks a rule.
pub fn password_rejected(field: &str, fault: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, ErrorReason::PasswordRejected, format!("the password {fault}"))
        .field(field, fault)
}

/// Not a token of a live session.
pub fn refresh_token_invalid() -> Refusal {
    Refusal::new(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// The token was used before; its session has been ended.
pub fn refresh_token_reused() -> Refusal {
    let message = "the refresh token had been used before; its session has been ended";
    Refusal::new(Code::Unauthenticated, ErrorReason::RefreshTokenReused, message)
}

/// The same client has gone on with a newer token.
pub fn refresh_token_superseded() -> Refusal {
    let message = "a newer refresh token of the session is in use";
    Refusal::new(Code::Aborted, ErrorReason::RefreshTokenSuperseded, message)
}

/// The caller has no such live session.
pub fn session_not_found() -> Refusal {
    Refusal::new(Code::NotFound, ErrorReason::SessionNotFound, "there is no such session")
}

/// Nobody would be left who can administer accounts.
pub fn last_admin() -> Refusal {
    let message = "nobody would be left who has the role admin";
    Refusal::new(Code::FailedPrecondition, ErrorReason::LastAdmin, message)
}

/// A filter cannot be read.
pub fn filter_invalid(fault: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {fault}")).field("filter", fault)
}

/// There is no such account, or the one of the access token is no more.
pub fn user_not_found() -> Refusal {
    Refusal::new(Code::NotFound, ErrorReason::UserNotFound, "there is no such account")
}
