//! The authenticated caller of an RPC, and what the token of the caller permits.

use std::time::Duration;

use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Request};
use uuid::Uuid;

use super::{
    authentication::Authentication,
    claims::{AccessClaims, LEEWAY},
    scope::{Scope, Scopes},
};
use crate::{clock::Timestamp, status::ApiError};

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

    /// Returns how and when the user has proved their identity, also if a service acts on behalf of the user. `None` if the
    /// caller is a program.
    #[must_use]
    pub fn authentication(&self) -> Option<Authentication> {
        self.claims.authentication
    }

    /// Returns the service that acts on behalf of the user (RFC 8693, section 4.1), or `None` if the user acts.
    #[must_use]
    pub fn actor(&self) -> Option<Uuid> {
        self.claims.actors.first().map(|actor| actor.id)
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

    /// Checks that the user has proved the password or a second factor at most `max_age` ago, allowing for [`LEEWAY`]. The
    /// tokens of programs, which have scopes, no time of authentication and no actor, are exempt. A service that acts on
    /// behalf of a user is not, because only tokens of users can be exchanged.
    ///
    /// # Errors
    /// PERMISSION_DENIED / STEP_UP_REQUIRED if not. The client can then call `AccountService.Reauthenticate`.
    pub fn require_fresh(&self, now: Timestamp, max_age: Duration) -> Result<(), ApiError> {
        let is_fresh = match self.claims.authentication {
            Some(Authentication { time, .. }) => now.since(time) <= max_age + LEEWAY,
            None => self.claims.scopes.is_some() && self.claims.actors.is_empty(),
        };
        if is_fresh { Ok(()) } else { Err(step_up_required(max_age)) }
    }
}

/// Returns the error of a call that requires that the user has proved a factor at most `max_age` ago (RFC 9470, section 3).
#[must_use]
pub fn step_up_required(max_age: Duration) -> ApiError {
    let message = "prove the password or a second factor again, then repeat the call";
    ApiError::new(Code::PermissionDenied, ErrorReason::StepUpRequired, message)
        .metadata("required", "reauthentication")
        .metadata("max_age", max_age.as_secs())
}

/// Returns the error of a call whose `token` lacks a scope.
#[must_use]
pub fn scope_missing(token: &str, scope: Scope) -> ApiError {
    let message = format!("the {token} does not have the scope `{scope}`");
    ApiError::new(Code::PermissionDenied, ErrorReason::ScopeMissing, message).metadata("required", scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{actor::Actor, authentication::AuthMethods, scope::Scopes};

    const MAX_AGE: Duration = Duration::from_secs(600);

    fn require_fresh(authenticated: Option<i64>, scopes: Option<Scopes>) -> Result<(), ErrorReason> {
        require_fresh_for(authenticated, scopes, Vec::new())
    }

    fn require_fresh_for(
        authenticated: Option<i64>,
        scopes: Option<Scopes>,
        actors: Vec<Actor>,
    ) -> Result<(), ErrorReason> {
        let now = Timestamp::from_seconds(10_000);
        let authentication = authenticated
            .map(|seconds| Authentication { methods: AuthMethods::default(), time: Timestamp::from_seconds(seconds) });
        let id = Uuid::nil();
        let claims = AccessClaims {
            id,
            user_id: id,
            session_id: id,
            roles: Vec::new(),
            scopes,
            authentication,
            issued_at: now,
            expires_at: now,
            actors,
        };
        let caller = Caller { claims, has_personal_access_token: false };
        caller.require_fresh(now, MAX_AGE).map_err(|error| error.reason())
    }

    #[test]
    fn users_must_have_proved_a_factor_recently() {
        for (authenticated, is_fresh) in [(10_000, true), (9_400, true), (9_395, true), (9_394, false), (10_005, true)]
        {
            let expected = if is_fresh { Ok(()) } else { Err(ErrorReason::StepUpRequired) };
            assert_eq!(require_fresh(Some(authenticated), None), expected, "{authenticated}");
            assert_eq!(require_fresh(Some(authenticated), Some(Scopes::default())), expected, "{authenticated}");
        }
    }

    #[test]
    fn programs_are_exempt_but_tokens_without_scopes_are_not() {
        assert_eq!(require_fresh(None, Some(Scopes::default())), Ok(()));
        assert_eq!(require_fresh(None, None), Err(ErrorReason::StepUpRequired));
    }

    #[test]
    fn services_that_act_for_users_need_a_recent_proof_of_the_user() {
        let service = vec![Actor { id: Uuid::from_u128(1), session_id: None }];
        let scopes = Some(Scopes::default());
        for (authenticated, expected) in [
            (Some(9_400), Ok(())),
            (Some(9_394), Err(ErrorReason::StepUpRequired)),
            (None, Err(ErrorReason::StepUpRequired)),
        ] {
            assert_eq!(require_fresh_for(authenticated, scopes, service.clone()), expected, "{authenticated:?}");
        }
    }
}
