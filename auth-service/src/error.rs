//! The API errors of this service.

use std::time::Duration;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use crate::model::factor::MAX_FACTORS;
use crate::model::mail::LIMIT_PERIOD;
use crate::model::personal_access_token::MAX_TOKENS;
use crate::model::service_account::MAX_ACCOUNTS;
use crate::webauthn::rejection::Rejection;

pub mod device;

/// Returns the error for a failed login, which is the same for a wrong password, an unknown and a disabled account.
pub fn credentials_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::CredentialsInvalid, "the email or the password is wrong")
}

/// Returns the error for a failed login to a server that requires verified addresses. It is also that of the correct
/// password of a new account.
pub fn credentials_invalid_or_unverified() -> ApiError {
    let message = "the email or the password is wrong, or the address is not verified yet; follow the link in the mail, or \
                   reset the password";
    ApiError::new(Code::Unauthenticated, ErrorReason::CredentialsInvalid, message)
}

/// Returns the error for an email address, or a service account, with too many wrong passwords, codes or secrets, whether or
/// not it exists.
pub fn too_many_wrong_passwords(wait: Duration) -> ApiError {
    let message = "too many failed attempts for this account; try again later";
    ApiError::limit_exceeded("wrong_passwords", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for an email address with too many attempts in progress, whether or not it has an account.
pub fn too_many_attempts(wait: Duration) -> ApiError {
    let message = "too many attempts for this account are in progress; try again later";
    ApiError::limit_exceeded("login_attempts", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for an IP address that has exceeded the rate limit with this name.
pub fn too_many_calls(limit: &'static str, wait: Duration) -> ApiError {
    let message = "too many calls from this address; try again later";
    ApiError::limit_exceeded(limit, ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for a request whose current password is wrong.
pub fn current_password_wrong() -> ApiError {
    let message = "the current password is wrong";
    ApiError::new(Code::PermissionDenied, ErrorReason::CredentialsInvalid, message)
        .field("current_password", "is wrong")
}

/// Returns the error for an access token whose session has ended.
pub fn token_revoked() -> ApiError {
    let message = "the session of the access token has ended";
    ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, message)
}

/// Returns the error for a caller who creates or changes credentials in a session that is limited to scopes.
pub fn token_is_limited() -> ApiError {
    let message =
        "the access token is limited to scopes, so it cannot create or change credentials; log in without scopes";
    ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message)
}

/// Returns the error for a caller who changes a personal access token with more scopes than the access token of the call.
pub fn token_has_more_scopes() -> ApiError {
    let message = "the personal access token has scopes that the access token of this call does not have";
    ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message)
}

/// Returns the error for an email address that already has an account.
pub fn email_taken() -> ApiError {
    ApiError::new(Code::AlreadyExists, ErrorReason::EmailTaken, "an account with this email exists")
        .field("email", "already has an account")
}

/// Returns the error for a new password that breaks a rule.
pub fn password_rejected(field: &str, violation: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::PasswordRejected, format!("the password {violation}"))
        .field(field, violation)
}

/// Returns the error for a refresh token that does not belong to an active session.
pub fn refresh_token_invalid() -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// Returns the error for a reused refresh token, whose session has been revoked.
pub fn refresh_token_reused() -> ApiError {
    let message = "the refresh token was already used; its session has been revoked";
    ApiError::new(Code::Unauthenticated, ErrorReason::RefreshTokenReused, message)
}

/// Returns the error for a refresh token that is sent after a newer token of its session was used.
pub fn refresh_token_superseded() -> ApiError {
    let message = "a newer refresh token of the session has been used";
    ApiError::new(Code::Aborted, ErrorReason::RefreshTokenSuperseded, message)
}

/// Returns the error for an id that is not an active session of the caller.
pub fn session_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::SessionNotFound, "the session does not exist")
}

/// Returns the error for a logout with the token of a service that acts on behalf of the user.
pub fn token_belongs_to_service() -> ApiError {
    let message = "the access token belongs to a service that acts on behalf of the user, and cannot end the session";
    ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message)
}

/// Returns the error for an id that is not an active personal access token of the caller.
pub fn personal_access_token_not_found() -> ApiError {
    let message = "the personal access token does not exist";
    ApiError::new(Code::NotFound, ErrorReason::PersonalAccessTokenNotFound, message)
}

/// Returns the error for an account that has reached its limit of personal access tokens.
pub fn too_many_personal_access_tokens() -> ApiError {
    let message = format!("the account has reached its limit of {MAX_TOKENS} personal access tokens");
    ApiError::limit_exceeded("personal_access_tokens", ErrorReason::QuotaExceeded, message)
}

/// Returns the error for an id that is not a service account.
pub fn service_account_not_found() -> ApiError {
    let message = "the service account does not exist, or has no secret";
    ApiError::new(Code::NotFound, ErrorReason::ServiceAccountNotFound, message)
}

/// Returns the error for another service account with the same certificate.
pub fn certificate_name_taken() -> ApiError {
    let message = "another service account has this certificate name";
    ApiError::new(Code::AlreadyExists, ErrorReason::CertificateNameTaken, message)
        .field("certificate_name", "belongs to another service account")
}

/// Returns the error when there are too many service accounts.
pub fn too_many_service_accounts() -> ApiError {
    let message = format!("there are {MAX_ACCOUNTS} service accounts; delete those that are not used");
    ApiError::limit_exceeded("service_accounts", ErrorReason::QuotaExceeded, message)
}

/// Adds the `error` of OAuth 2.0 to an error.
pub fn oauth(error: ApiError, name: &'static str) -> ApiError {
    error.metadata("error", name)
}

/// Returns the error for an invalid parameter of OAuth 2.0.
pub fn request_invalid(field: &'static str, violation: &'static str) -> ApiError {
    let message = format!("{field}: {violation}");
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message).field(field, violation);
    oauth(error, "invalid_request")
}

/// Returns the error for a client that is unknown, or has not authenticated.
pub fn client_invalid() -> ApiError {
    let message = "the client is unknown, or did not authenticate correctly";
    oauth(ApiError::new(Code::Unauthenticated, ErrorReason::ClientInvalid, message), "invalid_client")
}

/// Returns the error for a refresh token or a device code that is not valid.
pub fn grant_invalid(message: &'static str) -> ApiError {
    oauth(ApiError::new(Code::InvalidArgument, ErrorReason::GrantInvalid, message), "invalid_grant")
}

/// Returns the error for scopes that cannot be granted.
pub fn scope_invalid(message: &'static str) -> ApiError {
    oauth(ApiError::new(Code::InvalidArgument, ErrorReason::ScopeInvalid, message), "invalid_scope")
}

/// Returns the error for an unknown grant type.
pub fn grant_type_unsupported() -> ApiError {
    let message = "the server does not support this `grant_type`";
    oauth(ApiError::new(Code::InvalidArgument, ErrorReason::GrantTypeUnsupported, message), "unsupported_grant_type")
}

/// Returns the error for a token that cannot be exchanged (RFC 8693, section 2.2.2).
pub fn subject_token_invalid(violation: &'static str) -> ApiError {
    request_invalid("subject_token", violation)
}

/// Returns the error for a valid token that cannot be revoked (RFC 7009, section 2.2.1).
pub fn token_not_revocable(violation: &'static str) -> ApiError {
    oauth(request_invalid("token", violation), "unsupported_token_type")
}

/// Returns the error for a service account that has requested too many tokens.
pub fn too_many_client_tokens(wait: Duration) -> ApiError {
    let message = "too many tokens for this service account; use each until it expires";
    ApiError::limit_exceeded("client_tokens", ErrorReason::RateLimited, message).retry_after(wait)
}

/// Returns the error for a change that would leave no administrator.
pub fn last_admin() -> ApiError {
    let message = "no account with the role `admin` would be left";
    ApiError::new(Code::FailedPrecondition, ErrorReason::LastAdmin, message)
}

/// Returns the error for an invalid filter.
pub fn filter_invalid(problem: &str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::FilterInvalid, format!("filter: {problem}"))
        .field("filter", problem)
}

/// Returns the error for the token of a mailed link that is not valid, or no longer.
pub fn action_token_invalid() -> ApiError {
    let message = "the link was already used, has expired, or is not valid; request a new mail";
    ApiError::new(Code::InvalidArgument, ErrorReason::ActionTokenInvalid, message).field("token", "is not valid")
}

/// Returns the error for a mailed code, or that of a second factor, that is not valid, or no longer. The error is the same
/// for an address without an account.
pub fn code_invalid() -> ApiError {
    let message = "the code is wrong, was already used, or has expired";
    ApiError::new(Code::Unauthenticated, ErrorReason::CodeInvalid, message)
}

/// Returns the error for the challenge of a login that cannot be completed, or not again.
pub fn challenge_invalid() -> ApiError {
    let message = "the login was already completed, or has expired; log in again";
    ApiError::new(Code::Unauthenticated, ErrorReason::ChallengeInvalid, message)
}

/// Returns the error for an id that is not a factor of the caller.
pub fn factor_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::FactorNotFound, "the factor does not exist")
}

/// Returns the error for an account that has reached its limit of factors.
pub fn too_many_factors() -> ApiError {
    let message = format!("the account has reached its limit of {MAX_FACTORS} factors");
    ApiError::limit_exceeded("factors", ErrorReason::QuotaExceeded, message)
}

/// Returns the error for a login with a passkey whose response is refused.
pub fn passkey_invalid(rejection: Rejection) -> ApiError {
    ApiError::new(Code::Unauthenticated, ErrorReason::PasskeyInvalid, rejection.to_string())
}

/// Returns the error for the registration of a passkey whose response is refused.
pub fn passkey_refused(rejection: Rejection) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::PasskeyInvalid, rejection.to_string())
        .field("response", rejection.to_string())
}

/// Returns the error for a passkey that is registered already.
pub fn passkey_exists() -> ApiError {
    ApiError::new(Code::AlreadyExists, ErrorReason::PasskeyExists, "the passkey is registered already")
}

/// Returns the error for a server without a site to which passkeys could belong.
pub fn passkeys_disabled() -> ApiError {
    let message = "passkeys need --public-url with a domain name and https, or with localhost";
    ApiError::new(Code::FailedPrecondition, ErrorReason::PasskeysDisabled, message)
}

/// Returns the error for a server whose passkeys belong to another domain name.
pub fn passkeys_of_other_site() -> ApiError {
    let message = "the passkeys of this server belong to another domain name than that of --public-url; delete all of them \
                   to use the new one";
    ApiError::new(Code::FailedPrecondition, ErrorReason::PasskeysDisabled, message)
}

/// Returns the error for a request that needs mails, which the server does not send.
pub fn mail_disabled() -> ApiError {
    ApiError::new(Code::FailedPrecondition, ErrorReason::MailDisabled, "the server sends no mails")
}

/// Returns the error for a login to an account whose address is not verified.
pub fn email_unverified() -> ApiError {
    let message = "the email address of the account is not verified; follow the link in the mail that was sent to it";
    ApiError::new(Code::FailedPrecondition, ErrorReason::EmailUnverified, message)
}

/// Returns the error for an id that is not a mail that was not sent.
pub fn mail_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::MailNotFound, "there is no mail with this id that was not sent")
}

/// Returns the error for an account that has requested too many mails.
pub fn too_many_mails() -> ApiError {
    let message = "the account has requested too many mails; try again in an hour";
    ApiError::limit_exceeded("requested_mails", ErrorReason::RateLimited, message).retry_after(LIMIT_PERIOD)
}

/// Returns the error for a mail that cannot be stored because too many wait to be sent.
pub fn outbox_full() -> ApiError {
    let message = "too many mails wait to be sent";
    ApiError::limit_exceeded("pending_mails", ErrorReason::Overloaded, message).retry_after(Duration::from_secs(60))
}

/// Returns the error for an account that does not exist. It may be the deleted account of the access token.
pub fn user_not_found() -> ApiError {
    ApiError::new(Code::NotFound, ErrorReason::UserNotFound, "the account does not exist")
}
