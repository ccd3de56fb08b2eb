//! Requests, parsed into what cannot be wrong.

use service_kit::{
    id,
    status::{Refusal, Violations},
};
use taskey_proto::auth::v1 as pb;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    error,
    model::{email::Email, password::Password, text},
};

/// No refresh token of ours is longer.
const MAX_REFRESH_TOKEN_BYTES: usize = 512;

/// A sign-up.
pub struct SignUp {
    pub(super) email: Email,
    pub(super) password: Password,
    pub(super) display_name: String,
}

impl SignUp {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the fields at fault; PASSWORD_REJECTED if the password is the only one.
    pub fn parse(request: pb::SignUpRequest, min_length: usize) -> Result<Self, Refusal> {
        let mut violations = Violations::default();
        let email = violations.check("email", Email::parse(&request.email));
        let display_name = violations.check("display_name", text::name(request.display_name));
        let password = Password::new(request.password, min_length);
        match (email.zip(display_name), password) {
            (Some((email, display_name)), Ok(password)) => Ok(Self { email, password, display_name }),
            (Some(_), Err(fault)) => Err(error::password_rejected(&fault)),
            (None, password) => {
                violations.check("password", password);
                violations.finish(None)
            }
        }
    }
}

/// A login.
pub struct Login {
    pub(super) email: Email,
    pub(super) password: Password,
    pub(super) label: String,
}

impl Login {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the fields at fault.
    pub fn parse(request: pb::LoginRequest) -> Result<Self, Refusal> {
        let mut violations = Violations::default();
        let email = violations.check("email", Email::parse(&request.email));
        let password = violations.check("password", Password::given(request.password));
        let label = violations.check("session_label", text::name(request.session_label));
        let parsed = email.zip(password).zip(label);
        violations.finish(parsed.map(|((email, password), label)| Self { email, password, label }))
    }
}

/// The refresh token of a request; an empty one is `None`.
///
/// # Errors
/// VALIDATION_FAILED if it is longer than any of ours.
pub fn refresh_token(token: String) -> Result<Option<String>, Refusal> {
    let mut violations = Violations::default();
    if token.len() > MAX_REFRESH_TOKEN_BYTES {
        violations.add("refresh_token", "is too long to be a refresh token");
    }
    violations.finish(Some(Some(token).filter(|token| !token.is_empty())))
}

/// The token that is asked about.
///
/// # Errors
/// VALIDATION_FAILED if it is empty.
pub fn introspected(request: pb::IntrospectRequest) -> Result<Zeroizing<String>, Refusal> {
    let mut violations = Violations::default();
    let token = Zeroizing::new(request.token);
    if token.is_empty() {
        violations.add("token", "must not be empty");
    }
    violations.finish(Some(token))
}

/// The refusal of a request without a refresh token that needs one.
pub fn no_refresh_token() -> Refusal {
    let mut violations = Violations::default();
    violations.add("refresh_token", "must not be empty");
    violations.finish::<()>(None).err().unwrap_or_else(|| Refusal::internal("a violation was lost"))
}

/// The new display name of an account; `None` if it shall stay.
///
/// # Errors
/// VALIDATION_FAILED with the field, or the path of the mask, at fault.
pub fn new_display_name(request: pb::UpdateMeRequest) -> Result<Option<String>, Refusal> {
    let mut violations = Violations::default();
    let Some(user) = request.user else {
        violations.add("user", "must be there");
        return violations.finish(None);
    };
    let mask = request.update_mask.unwrap_or_default();
    let named = mask.paths.iter().any(|path| path == "display_name" || path == "*");
    if let Some(path) = mask.paths.iter().find(|path| *path != "display_name" && *path != "*") {
        // Long enough for any field, too short for a novel.
        let path: String = path.chars().take(50).collect();
        violations.add("update_mask", format!("{path:?} cannot be changed; the mask may hold display_name, or *"));
    }
    let changes = named || (mask.paths.is_empty() && !user.display_name.is_empty());
    let name = violations.check("user.display_name", text::name(user.display_name));
    violations.finish(name.map(|name| changes.then_some(name)))
}

/// The id in a field.
///
/// # Errors
/// VALIDATION_FAILED if it is not a UUID.
pub fn id(field: &str, text: &str) -> Result<Uuid, Refusal> {
    let mut violations = Violations::default();
    let id = violations.check(field, id::parse(text).ok_or("must be a UUID"));
    violations.finish(id)
}
