//! Authenticates callers by the database. Every holder of a shared key could sign a token with any claim, so the account
//! and its roles are not taken from the token.

use service_kit::{
    auth::{caller::step_up_required, claims::LEEWAY, interceptor::Caller, scope::Scopes},
    clock::Timestamp,
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::{
    app::App,
    error,
    model::{
        role::{Role, Roles},
        user::User,
    },
    store::users::{self, SessionUser},
};

/// A caller whose session is active and whose account is enabled.
#[derive(Clone, Debug)]
pub struct ActiveCaller {
    /// The account.
    pub user: User,
    /// The session.
    pub session_id: Uuid,
    /// When the user last proved a factor in the session.
    pub authenticated_at: Timestamp,
    /// What the token of the caller permits, or `None` if it permits all that the roles do.
    pub scopes: Option<Scopes>,
}

impl App {
    /// Returns the caller that the interceptor has authenticated, as stored in the database.
    ///
    /// # Errors
    /// TOKEN_REVOKED if the session has ended, or the account is disabled or deleted.
    pub async fn caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = Caller::from_request(request)?;
        let (user_id, session_id) = (caller.user_id(), caller.session_id());
        // The leeway is for the clocks of other machines, which do not issue personal access tokens.
        let is_personal = caller.has_personal_access_token();
        let valid_at = if is_personal { self.clock.now() } else { self.clock.now() - LEEWAY };
        let found = users::by_active_session(&self.db, valid_at, user_id, session_id, is_personal).await?;
        let found = found.filter(|found| found.permits(caller.scopes()));
        let SessionUser { user, authenticated_at, .. } = found.ok_or_else(error::token_revoked)?;
        Ok(ActiveCaller { user, session_id, authenticated_at, scopes: caller.scopes() })
    }

    /// Returns the caller, who must not have a personal access token, because these cannot create or change credentials.
    ///
    /// # Errors
    /// As [`caller`](Self::caller), or PERMISSION_DENIED.
    pub async fn interactive_caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        if Caller::from_request(request)?.has_personal_access_token() {
            let message = "personal access tokens cannot create or change credentials; log in instead";
            return Err(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message));
        }
        self.caller(request).await
    }

    /// Returns the caller, who must not have a personal access token, and must have proved a factor recently. The time is that
    /// in the database, so it also applies to access tokens from before that.
    ///
    /// # Errors
    /// As [`interactive_caller`](Self::interactive_caller), or STEP_UP_REQUIRED.
    pub async fn fresh_caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = self.interactive_caller(request).await?;
        self.require_fresh(&caller)?;
        Ok(caller)
    }

    fn require_fresh(&self, caller: &ActiveCaller) -> Result<(), ApiError> {
        let max_age = self.step_up_max_age;
        let is_fresh = self.clock.now().since(caller.authenticated_at) <= max_age;
        if is_fresh { Ok(()) } else { Err(step_up_required(max_age)) }
    }

    /// Returns the caller, who must be an administrator. Without a personal access token, the caller must have proved a factor
    /// recently. The token must contain the role as well, because new roles take
    /// effect at the next refresh.
    ///
    /// # Errors
    /// As [`caller`](Self::caller), PERMISSION_DENIED or STEP_UP_REQUIRED.
    pub async fn admin<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = self.caller(request).await?;
        let role = Role::Admin;
        Caller::from_request(request)?.require_role(&role.to_string())?;
        if !Roles::from_stored(&caller.user.roles).contains(role) {
            let message = format!("the account does not have the `{role}` role");
            return Err(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message));
        }
        if !Caller::from_request(request)?.has_personal_access_token() {
            self.require_fresh(&caller)?;
        }
        Ok(caller)
    }
}
