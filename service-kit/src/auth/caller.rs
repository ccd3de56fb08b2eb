//! The authenticated caller of an RPC, and what the token of the caller permits.

use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Request};
use uuid::Uuid;

use super::{
    claims::AccessClaims,
    scope::{Scope, Scopes},
};
use crate::status::ApiError;

/// The authenticated caller. It can only be created from a verified token.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) claims: AccessClaims,
    pub(super) has_personal_access_token: bool,
}

impl Caller {
    /// Returns the caller that the interceptor has authenticated.
    ///
    /// # Errors
    /// INTERNAL if the service is not [protected](super::protected::Protected).
    pub fn from_request<T>(request: &Request<T>) -> Result<&Self, ApiError> {
        request.extensions().get().ok_or_else(|| ApiError::internal("the service is not protected"))
    }

    /// Returns the claims of the token.
    #[must_use]
    pub fn claims(&self) -> &AccessClaims {
        &self.claims
    }

    /// Returns the id of the user.
    #[must_use]
    pub fn user_id(&self) -> Uuid {
        self.claims.user_id
    }

    /// Reports whether the caller has a personal access token.
    #[must_use]
    pub fn has_personal_access_token(&self) -> bool {
        self.has_personal_access_token
    }

    /// Returns the scopes of the token, or `None` if it permits all that the roles do.
    #[must_use]
    pub fn scopes(&self) -> Option<Scopes> {
        self.claims.scopes
    }

    /// Returns the id of the session.
    #[must_use]
    pub fn session_id(&self) -> Uuid {
        self.claims.session_id
    }

    /// Checks that the caller has a role.
    ///
    /// # Errors
    /// PERMISSION_DENIED if the caller does not have the role.
    pub fn require_role(&self, role: &str) -> Result<(), ApiError> {
        if self.claims.roles.iter().any(|granted| granted == role) {
            return Ok(());
        }
        let message = format!("requires the `{role}` role");
        Err(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message))
    }

    /// Checks that the token of the caller has a scope. Tokens without the claim `scope` have all scopes.
    ///
    /// # Errors
    /// PERMISSION_DENIED / SCOPE_MISSING if it does not.
    pub fn require_scope(&self, scope: Scope) -> Result<(), ApiError> {
        if self.claims.scopes.is_none_or(|granted| granted.contains(scope)) {
            return Ok(());
        }
        Err(scope_missing("access token", scope))
    }
}

/// Returns the error of a call whose `token` lacks a scope.
#[must_use]
pub fn scope_missing(token: &str, scope: Scope) -> ApiError {
    let message = format!("the {token} does not have the scope `{scope}`");
    ApiError::new(Code::PermissionDenied, ErrorReason::ScopeMissing, message).metadata("required", scope)
}
