//! Parses and validates requests about second factors.

use std::sync::LazyLock;

use service_kit::{
    id,
    status::{ApiError, Violations},
    update_mask::{ReadOnlyFields, RepeatedFields},
};
use taskey_proto::auth::v1::{
    self as pb, complete_login_request::Factor as LoginFactor, reauthenticate_request::Proof as RequestedProof,
};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::{
    error,
    model::{
        factor::SecondFactor,
        login_challenge::{LoginChallenge, MAX_TOKEN_BYTES},
        password::Password,
        recovery_code::RecoveryCodeHash,
        text,
        totp::TotpCode,
    },
    webauthn::response::{Assertion, Registration},
};

/// Parses the label of a new factor.
///
/// # Errors
/// VALIDATION_FAILED if it is invalid.
pub fn label(request: pb::CreateTotpRequest) -> Result<String, ApiError> {
    let mut violations = Violations::default();
    let label = violations.check("label", text::parse_name(request.label));
    violations.finish(label)
}

/// Parses the confirmation of a factor.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn confirmation(request: &pb::ConfirmTotpRequest) -> Result<(Uuid, TotpCode), ApiError> {
    let mut violations = Violations::default();
    let id = violations.check("factor_id", id::parse(&request.factor_id).ok_or("must be a UUID"));
    let code = violations.check("code", TotpCode::parse(&request.code));
    violations.finish(id.zip(code))
}

/// Parses the registration of a passkey, and its label.
///
/// # Errors
/// VALIDATION_FAILED if the label is invalid; PASSKEY_INVALID if the response is malformed.
pub fn passkey_registration(request: pb::FinishPasskeyRequest) -> Result<(Registration, String), ApiError> {
    let mut violations = Violations::default();
    let label = violations.check("label", text::parse_name(request.label));
    let label = violations.finish(label)?;
    Ok((Registration::parse(&request.response).map_err(error::passkey_refused)?, label))
}

/// Parses a login with a passkey, and the label of its session.
///
/// # Errors
/// VALIDATION_FAILED if the label is invalid; PASSKEY_INVALID if the response is malformed.
pub fn passkey_login(request: pb::FinishPasskeyLoginRequest) -> Result<(Assertion, String), ApiError> {
    let mut violations = Violations::default();
    let label = violations.check("session_label", text::parse_name(request.session_label));
    let label = violations.finish(label)?;
    Ok((Assertion::parse(&request.response).map_err(error::passkey_invalid)?, label))
}

/// The new label of a factor. `None` if it does not change.
#[derive(Debug)]
pub struct FactorUpdate {
    pub(super) id: Uuid,
    pub(super) label: Option<String>,
    /// The fields that must repeat the current values.
    pub(super) repeated: RepeatedFields,
}

impl FactorUpdate {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the invalid fields.
    pub fn parse(metadata: &MetadataMap, mut request: pb::UpdateFactorRequest) -> Result<Self, ApiError> {
        static READ_ONLY: LazyLock<ReadOnlyFields> =
            LazyLock::new(|| ReadOnlyFields::of("taskey.auth.v1.Factor", "factor"));
        let repeated = READ_ONLY.split_off(metadata, request.update_mask.as_mut(), request.factor.as_ref());
        let mut violations = Violations::default();
        let Some(factor) = request.factor else {
            violations.add("factor", "must be set");
            return violations.finish(None);
        };
        let mask = request.update_mask.unwrap_or_default();
        if let Some(path) = mask.paths.iter().find(|path| *path != "label" && *path != "*") {
            // Truncated to keep the message short. No name of a field is longer.
            let path: String = path.chars().take(50).collect();
            violations.add("update_mask", format!("{path:?} cannot be changed; the mask can contain label or *"));
        }
        let is_changed = !mask.paths.is_empty() || !factor.label.is_empty();
        let id = violations.check("factor.id", id::parse(&factor.id).ok_or("must be a UUID"));
        let label = violations.check("factor.label", text::parse_name(factor.label));
        let update = id.zip(label).map(|(id, label)| Self { id, label: is_changed.then_some(label), repeated });
        violations.finish(update)
    }
}

/// Parses the completion of a login. `open` decrypts the token of the challenge.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields; PASSKEY_INVALID; CHALLENGE_INVALID if the token is not valid, or no longer.
pub fn completion(
    request: pb::CompleteLoginRequest,
    open: impl FnOnce(&str) -> Option<LoginChallenge>,
) -> Result<(LoginChallenge, SecondFactor), ApiError> {
    let mut violations = Violations::default();
    let token = request.challenge_token;
    if token.is_empty() {
        violations.add("challenge_token", "must not be empty");
    }
    let factor = match request.factor {
        Some(LoginFactor::TotpCode(code)) => totp_code(&code, &mut violations),
        Some(LoginFactor::RecoveryCode(code)) => recovery_code(&code, &mut violations),
        Some(LoginFactor::PasskeyResponse(response)) => Some(passkey_response(&response)?),
        None => {
            violations.add("totp_code", "must be set, or recovery_code, or passkey_response");
            None
        }
    };
    let factor = violations.finish(factor)?;
    let challenge = Some(token).filter(|token| token.len() <= MAX_TOKEN_BYTES).and_then(|token| open(&token));
    Ok((challenge.ok_or_else(error::challenge_invalid)?, factor))
}

/// What a signed-in user proves.
pub enum IdentityProof {
    /// The password.
    Password(Password),
    /// A second factor.
    Factor(SecondFactor),
}

/// Parses what a signed-in user proves.
///
/// # Errors
/// VALIDATION_FAILED with the invalid field; PASSKEY_INVALID if the response of a passkey is malformed.
pub fn identity_proof(request: pb::ReauthenticateRequest) -> Result<IdentityProof, ApiError> {
    let mut violations = Violations::default();
    let proof = match request.proof {
        Some(RequestedProof::CurrentPassword(password)) => {
            violations.check("current_password", Password::existing(password)).map(IdentityProof::Password)
        }
        Some(RequestedProof::TotpCode(code)) => totp_code(&code, &mut violations).map(IdentityProof::Factor),
        Some(RequestedProof::RecoveryCode(code)) => recovery_code(&code, &mut violations).map(IdentityProof::Factor),
        Some(RequestedProof::PasskeyResponse(response)) => Some(IdentityProof::Factor(passkey_response(&response)?)),
        None => {
            violations.add("current_password", "must be set, or totp_code, or recovery_code, or passkey_response");
            None
        }
    };
    violations.finish(proof)
}

fn totp_code(code: &str, violations: &mut Violations) -> Option<SecondFactor> {
    violations.check("totp_code", TotpCode::parse(code)).map(SecondFactor::TotpCode)
}

fn recovery_code(code: &str, violations: &mut Violations) -> Option<SecondFactor> {
    violations.check("recovery_code", RecoveryCodeHash::parse(code)).map(SecondFactor::RecoveryCode)
}

fn passkey_response(response: &str) -> Result<SecondFactor, ApiError> {
    Ok(SecondFactor::Passkey(Assertion::parse(response).map_err(error::passkey_invalid)?))
}
