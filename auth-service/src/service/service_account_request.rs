//! Parses the requests of `AdminService` about service accounts.

use std::time::Duration;

use service_kit::{
    auth::scope::{Scope, Scopes},
    status::{ApiError, Violations},
};
use taskey_proto::auth::v1 as pb;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{personal_access_token_request::parse_label, request};
use crate::{
    model::{
        service_account::{MAX_OVERLAP, PERMITTED_SCOPES, SecretHash},
        service_certificate::CertificateName,
    },
    store::service_accounts::NewServiceAccount,
};

/// Parses a new service account, and generates its secret. The secret is empty if it authenticates with a certificate.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn new_account(
    request: pb::CreateServiceAccountRequest,
    id: Uuid,
) -> Result<(NewServiceAccount, Zeroizing<String>), ApiError> {
    let mut violations = Violations::default();
    let label = violations.check("label", parse_label(request.label));
    let scopes = parse_scopes(&request.scopes, &mut violations);
    let certificate_name = match &request.certificate_name[..] {
        "" => None,
        name => violations.check("certificate_name", name.parse::<CertificateName>()),
    };
    let (secret, hash) = if request.certificate_name.is_empty() {
        let (secret, hash) = SecretHash::generate();
        (secret, Some(hash))
    } else {
        (Zeroizing::default(), None)
    };
    let parsed = label.map(|label| NewServiceAccount { id, label, scopes, certificate_name, hash });
    Ok((violations.finish(parsed)?, secret))
}

fn parse_scopes(names: &[String], violations: &mut Violations) -> Scopes {
    let mut parsed = Vec::new();
    if names.is_empty() {
        violations.add("scopes", "must contain at least one scope");
    }
    if names.len() > PERMITTED_SCOPES.len() {
        violations.add("scopes", "must not contain more scopes than service accounts can have");
        return Scopes::default();
    }
    for (index, name) in names.iter().enumerate() {
        let path = format!("scopes[{index}]");
        let Some(scope) = violations.check(&path, name.parse::<Scope>()) else { continue };
        if parsed.contains(&scope) {
            violations.add(path, "is duplicated");
        } else if !PERMITTED_SCOPES.contains(&scope) {
            violations.add(path, "is not a scope of service accounts");
        }
        parsed.push(scope);
    }
    parsed.into_iter().collect()
}

/// Parses the id of a service account, and how long its old secret stays valid.
///
/// # Errors
/// VALIDATION_FAILED with the invalid field.
pub fn rotation(request: &pb::RotateServiceAccountSecretRequest) -> Result<(Uuid, Option<Duration>), ApiError> {
    let mut violations = Violations::default();
    let id = request::id("id", &request.id)?;
    let overlap = request.overlap.map(Duration::try_from).transpose();
    let overlap = overlap.map_err(|_| ()).and_then(|overlap| match overlap {
        Some(overlap) if overlap > MAX_OVERLAP => Err(()),
        other => Ok(other.filter(|overlap| !overlap.is_zero())),
    });
    let overlap = violations.check("overlap", overlap.map_err(|()| "must be between 0 and 7 days"));
    Ok((id, violations.finish(overlap)?))
}
