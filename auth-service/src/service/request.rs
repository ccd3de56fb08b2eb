//! Parses and validates requests.

use std::sync::LazyLock;

use service_kit::{
    id, page,
    status::{ApiError, Violations},
    update_mask::{ReadOnlyFields, RepeatedFields},
};
use taskey_proto::auth::v1::{self as pb, audit_event, mail};
use tonic::metadata::MetadataMap;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    actions::Proof,
    error,
    login::password_login::Login,
    model::{
        action_token::{Code, UnverifiedToken},
        audit::Kind,
        email::Email,
        password::{Password, Rules},
        role::{Role, Roles},
        text,
        totp::TotpCode,
        user::User,
        user_filter::UserFilter,
    },
    store::audit::Selection,
};

/// An upper bound on the length of refresh tokens.
const MAX_REFRESH_TOKEN_BYTES: usize = 512;

/// A validated sign-up request.
pub struct SignUp {
    pub(super) email: Email,
    pub(super) password: Password,
    pub(super) display_name: String,
}

impl SignUp {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the invalid fields; PASSWORD_REJECTED if only the password is invalid.
    pub fn parse(request: pb::SignUpRequest, min_length: usize) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let rules = Rules { min_length, email: request.email.trim(), display_name: &request.display_name };
        let password = Password::new(request.password, rules);
        let email = violations.check("email", Email::parse(&request.email));
        let display_name = violations.check("display_name", text::parse_name(request.display_name));
        match (email.zip(display_name), password) {
            (Some((email, display_name)), Ok(password)) => Ok(Self { email, password, display_name }),
            (Some(_), Err(violation)) => Err(error::password_rejected("password", &violation)),
            (None, password) => {
                violations.check("password", password);
                violations.finish(None)
            }
        }
    }
}

/// Parses the current password of a signed-in caller.
///
/// # Errors
/// VALIDATION_FAILED if it is empty or too long.
pub fn current_password(text: String) -> Result<Password, ApiError> {
    let mut violations = Violations::default();
    let password = violations.check("current_password", Password::existing(text));
    violations.finish(password)
}

/// Parses the new password of an account.
///
/// # Errors
/// PASSWORD_REJECTED with the rule that it violates.
pub fn new_password(text: String, user: &User, min_length: usize) -> Result<Password, ApiError> {
    let rules = Rules { min_length, email: &user.email, display_name: &user.display_name };
    Password::new(text, rules).map_err(|violation| error::password_rejected("new_password", &violation))
}

/// A query for accounts.
pub struct UserQuery {
    pub(super) size: usize,
    pub(super) filter: UserFilter,
    /// The arguments that must not change between pages.
    pub(super) arguments: Vec<u8>,
    pub(super) page_token: String,
}

impl UserQuery {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED or FILTER_INVALID.
    pub fn parse(request: pb::ListUsersRequest) -> Result<Self, ApiError> {
        let size = page_size(request.page_size)?;
        let filter = UserFilter::parse(&request.filter).map_err(|error| error::filter_invalid(&error.to_string()))?;
        let arguments = [b"users:", request.filter.as_bytes()].concat();
        Ok(Self { size, filter, arguments, page_token: request.page_token })
    }
}

/// A query for audit events.
pub struct EventQuery {
    pub(super) size: usize,
    pub(super) selection: Selection,
    /// The arguments that must not change between pages.
    pub(super) arguments: Vec<u8>,
    pub(super) page_token: String,
}

impl EventQuery {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the invalid fields.
    pub fn parse(request: pb::ListAuditEventsRequest) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let size = violations.check("page_size", page::size(request.page_size));
        let kind = violations.check("kind", audit_event::Kind::try_from(request.kind).map_err(|_| "is unknown"));
        let user_id = match &request.user_id[..] {
            "" => Some(None),
            text => violations.check("user_id", id::parse(text).ok_or("must be a UUID")).map(Some),
        };
        let arguments = format!("events:{}:{}", request.user_id, request.kind).into_bytes();
        let parsed = size.zip(kind).zip(user_id).map(|((size, kind), user_id)| {
            let kind = Kind::from_name(kind.as_str_name());
            let selection = Selection { user_id, kind, before: None };
            Self { size, selection, arguments, page_token: request.page_token }
        });
        violations.finish(parsed)
    }
}

/// Parses the new roles of an account.
///
/// # Errors
/// VALIDATION_FAILED with the invalid field.
pub fn roles(request: &pb::SetUserRolesRequest) -> Result<(Uuid, Roles), ApiError> {
    let mut violations = Violations::default();
    let user_id = violations.check("user_id", id::parse(&request.user_id).ok_or("must be a UUID"));
    let mut roles = Roles::default();
    for (index, name) in request.roles.iter().enumerate() {
        let path = format!("roles[{index}]");
        if violations.check(&path, name.parse::<Role>()).is_some_and(|role| !roles.insert(role)) {
            violations.add(path, "is duplicated");
        }
    }
    violations.finish(user_id.map(|user_id| (user_id, roles)))
}

/// Parses the size of a page.
///
/// # Errors
/// VALIDATION_FAILED if it is negative.
pub fn page_size(requested: i32) -> Result<usize, ApiError> {
    let mut violations = Violations::default();
    let size = violations.check("page_size", page::size(requested));
    violations.finish(size)
}

/// Returns the sequence number after which changes of accounts are listed, and the size of the page.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn user_changes(after: i64, page_size: i32) -> Result<(i64, usize), ApiError> {
    let mut violations = Violations::default();
    let size = violations.check("page_size", page::size(page_size));
    if after < 0 {
        violations.add("after", "must not be negative");
    }
    violations.finish(size.map(|size| (after, size)))
}

/// Parses a login.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn login(request: pb::LoginRequest) -> Result<Login, ApiError> {
    let mut violations = Violations::default();
    let email = violations.check("email", Email::parse(&request.email));
    let password = violations.check("password", Password::existing(request.password));
    let label = violations.check("session_label", text::parse_name(request.session_label));
    let totp_code = Some(request.totp_code).filter(|code| !code.is_empty());
    let totp_code = totp_code.and_then(|code| violations.check("totp_code", TotpCode::parse(&code)));
    let parsed = email.zip(password).zip(label);
    violations.finish(parsed.map(|((email, password), label)| Login { email, password, label, totp_code }))
}

/// Parses an email address.
///
/// # Errors
/// VALIDATION_FAILED with the rule that it violates.
pub fn email(text: &str) -> Result<Email, ApiError> {
    let mut violations = Violations::default();
    let email = violations.check("email", Email::parse(text));
    violations.finish(email)
}

/// Parses a new email address, and the current password of a signed-in caller with another address.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn change_email(request: pb::ChangeEmailRequest, current: &str) -> Result<(Email, Password), ApiError> {
    let mut violations = Violations::default();
    let email = violations.check("new_email", Email::parse(&request.new_email));
    if email.as_ref().is_some_and(|email| email.as_str() == current) {
        violations.add("new_email", "is already the address of the account");
    }
    let password = violations.check("current_password", Password::existing(request.current_password));
    violations.finish(email.zip(password))
}

/// Parses the token of a mailed link.
///
/// # Errors
/// ACTION_TOKEN_INVALID if it is malformed.
pub fn action_token(token: String) -> Result<Proof, ApiError> {
    let token = Zeroizing::new(token);
    UnverifiedToken::parse(&token).map(Proof::Token).ok_or_else(error::action_token_invalid)
}

/// Parses the state of mails to list. Returns `None` for any state.
///
/// # Errors
/// VALIDATION_FAILED if it is unknown.
pub fn mail_state(state: i32) -> Result<Option<&'static str>, ApiError> {
    let mut violations = Violations::default();
    let state = violations.check("state", mail::State::try_from(state).map_err(|_| "is unknown"));
    violations.finish(state.map(|state| match state {
        mail::State::Unspecified => None,
        mail::State::Pending => Some("pending"),
        mail::State::Sent => Some("sent"),
        mail::State::Failed => Some("failed"),
        mail::State::Obsolete => Some("obsolete"),
    }))
}

/// Parses what proves that the caller has received a mail: a token, or an email address and a code.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields; ACTION_TOKEN_INVALID if the token is malformed.
pub fn proof(token: String, email: &str, code: &str) -> Result<Proof, ApiError> {
    let mut violations = Violations::default();
    match (token.is_empty(), email.is_empty() && code.is_empty()) {
        (true, false) => {
            let email = violations.check("email", Email::parse(email));
            let code = violations.check("code", Code::parse(code));
            violations.finish(email.zip(code).map(|(email, code)| Proof::Code { email, code }))
        }
        (false, true) => action_token(token),
        (is_empty, _) => {
            let violation =
                if is_empty { "must be set, or email and code" } else { "must not be set with email or code" };
            violations.add("token", violation);
            violations.finish(None)
        }
    }
}

/// Returns the refresh token of a request, or `None` if it is empty.
///
/// # Errors
/// VALIDATION_FAILED if it is too long.
pub fn refresh_token(token: String) -> Result<Option<String>, ApiError> {
    let mut violations = Violations::default();
    if token.len() > MAX_REFRESH_TOKEN_BYTES {
        violations.add("refresh_token", "is too long to be a refresh token");
    }
    violations.finish(Some(Some(token).filter(|token| !token.is_empty())))
}

/// Parses the token to introspect.
///
/// # Errors
/// VALIDATION_FAILED if it is empty.
pub fn introspection_token(request: pb::IntrospectRequest) -> Result<Zeroizing<String>, ApiError> {
    let mut violations = Violations::default();
    let token = Zeroizing::new(request.token);
    if token.is_empty() {
        violations.add("token", "must not be empty");
    }
    violations.finish(Some(token))
}

/// Returns the error of a request that lacks a required refresh token.
pub fn missing_refresh_token() -> ApiError {
    let mut violations = Violations::default();
    violations.add("refresh_token", "must not be empty");
    violations.finish::<()>(None).err().unwrap_or_else(|| ApiError::internal("the violation is missing"))
}

/// Returns the new display name of an account, or `None` if it does not change.
///
/// # Errors
/// VALIDATION_FAILED with the invalid field or path of the mask.
pub fn new_display_name(request: pb::UpdateMeRequest) -> Result<Option<String>, ApiError> {
    let mut violations = Violations::default();
    let Some(user) = request.user else {
        violations.add("user", "must be set");
        return violations.finish(None);
    };
    let mask = request.update_mask.unwrap_or_default();
    let is_in_mask = mask.paths.iter().any(|path| path == "display_name" || path == "*");
    if let Some(path) = mask.paths.iter().find(|path| *path != "display_name" && *path != "*") {
        // Truncated to keep the message short. No name of a field is longer.
        let path: String = path.chars().take(50).collect();
        violations.add("update_mask", format!("{path:?} cannot be changed; the mask can contain display_name or *"));
    }
    let is_changed = is_in_mask || (mask.paths.is_empty() && !user.display_name.is_empty());
    let name = violations.check("user.display_name", text::parse_name(user.display_name));
    violations.finish(name.map(|name| is_changed.then_some(name)))
}

/// Takes the fields from an update that only repeat the current values, see [`service_kit::update_mask`].
pub fn split_off_repeated(metadata: &MetadataMap, request: &mut pb::UpdateMeRequest) -> RepeatedFields {
    static READ_ONLY: LazyLock<ReadOnlyFields> = LazyLock::new(|| ReadOnlyFields::of("taskey.auth.v1.User", "user"));
    READ_ONLY.split_off(metadata, request.update_mask.as_mut(), request.user.as_ref())
}

/// Parses the id in a field.
///
/// # Errors
/// VALIDATION_FAILED if it is not a UUID.
pub fn id(field: &str, text: &str) -> Result<Uuid, ApiError> {
    let mut violations = Violations::default();
    let id = violations.check(field, id::parse(text).ok_or("must be a UUID"));
    violations.finish(id)
}
