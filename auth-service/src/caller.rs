//! Authenticates callers by the database. Every holder of a shared key could sign a token with any claim, so the account
//! and its roles are not taken from the token.

use service_kit::{
    auth::{
        caller::step_up_required,
        claims::LEEWAY,
        interceptor::{Caller, scope_missing},
        scope::{Scope, Scopes},
    },
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
        audit::Actor,
        role::{Role, Roles},
        service_account::roles,
        user::User,
    },
    store::{
        service_accounts,
        users::{self, SessionUser},
    },
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

/// An administrator: a user, or a service account that may administer.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The account.
    pub id: Uuid,
    /// The session.
    pub session_id: Uuid,
    /// Whether it is a service account.
    is_service: bool,
    /// Whether it is a program: a service account, or the bearer of a personal access token.
    is_program: bool,
    /// Whether the session is limited to scopes.
    is_limited: bool,
}

impl Administrator {
    /// Returns who causes the events of other accounts.
    #[must_use]
    pub fn actor(&self) -> Actor {
        if self.is_service { Actor::Service(self.id) } else { Actor::Admin(self.id) }
    }

    /// Checks that the administrator has logged in, without a limit to scopes. Programs and limited sessions cannot create or
    /// change credentials.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub fn require_unlimited_login(&self) -> Result<(), ApiError> {
        match self {
            Self { is_program: true, .. } => Err(program_refused("programs")),
            Self { is_limited: true, .. } => Err(error::token_is_limited()),
            _ => Ok(()),
        }
    }
}

/// Returns the error for `programs` that change credentials.
fn program_refused(programs: &str) -> ApiError {
    let message = format!("{programs} cannot create or change credentials; log in instead");
    ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message)
}

impl App {
    /// Returns the caller that the interceptor has authenticated, as stored in the database.
    ///
    /// # Errors
    /// TOKEN_REVOKED if the session has ended, or the account is disabled or deleted.
    pub async fn caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = Caller::from_request(request)?;
        self.active_user(caller).await?.ok_or_else(error::token_revoked)
    }

    /// Returns the caller, or `None` if the session has ended, or belongs to no enabled account of a user.
    async fn active_user(&self, caller: &Caller) -> Result<Option<ActiveCaller>, ApiError> {
        let (user_id, session_id, scopes) = (caller.user_id(), caller.session_id(), caller.scopes());
        // The leeway is for the clocks of other machines, which do not issue personal access tokens.
        let is_personal = caller.has_personal_access_token();
        let valid_at = if is_personal { self.clock.now() } else { self.clock.now() - LEEWAY };
        let found = users::by_active_session(&self.db, valid_at, user_id, session_id, is_personal).await?;
        let found = found.filter(|found| found.permits(scopes));
        Ok(found.map(|SessionUser { user, authenticated_at, .. }| ActiveCaller {
            user,
            session_id,
            authenticated_at,
            scopes,
        }))
    }

    /// Returns the caller, who must not have a personal access token, because these cannot create or change credentials.
    ///
    /// # Errors
    /// As [`caller`](Self::caller), or PERMISSION_DENIED.
    pub async fn interactive_caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        if Caller::from_request(request)?.has_personal_access_token() {
            return Err(program_refused("personal access tokens"));
        }
        self.caller(request).await
    }

    /// Returns the caller, who can create and change credentials: has no personal access token, and no session that is limited to
    /// scopes. Most credentials permit all that the roles do, so a limited session could exceed its limits with them.
    ///
    /// # Errors
    /// As [`interactive_caller`](Self::interactive_caller).
    pub async fn unlimited_caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = self.interactive_caller(request).await?;
        if caller.scopes.is_some() { Err(error::token_is_limited()) } else { Ok(caller) }
    }

    /// Returns the caller, who can create and change credentials, and must have proved a factor recently.
    ///
    /// # Errors
    /// As [`unlimited_caller`](Self::unlimited_caller), or STEP_UP_REQUIRED.
    pub async fn fresh_unlimited_caller<T: Sync>(&self, request: &Request<T>) -> Result<ActiveCaller, ApiError> {
        let caller = self.unlimited_caller(request).await?;
        self.require_fresh(&caller)?;
        Ok(caller)
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

    /// Returns the caller, who must be an administrator. A user without a personal access token must have proved a factor
    /// recently. The token must contain the role as well, because new roles take effect at the next refresh. A service account
    /// must have the scope that the RPC requires.
    ///
    /// # Errors
    /// As [`caller`](Self::caller), PERMISSION_DENIED, STEP_UP_REQUIRED or SCOPE_MISSING.
    pub async fn admin<T: Sync>(&self, request: &Request<T>, scope: Scope) -> Result<Administrator, ApiError> {
        let caller = Caller::from_request(request)?;
        let Some(active) = self.active_user(caller).await? else { return self.admin_service(caller, scope).await };
        let (role, is_program) = (Role::Admin, caller.has_personal_access_token());
        caller.require_role(&role.to_string())?;
        if !Roles::from_stored(&active.user.roles).contains(role) {
            let message = format!("the account does not have the `{role}` role");
            return Err(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message));
        }
        if !is_program {
            self.require_fresh(&active)?;
        }
        let (id, session_id, is_limited) = (active.user.id, active.session_id, active.scopes.is_some());
        Ok(Administrator { id, session_id, is_service: false, is_program, is_limited })
    }

    /// Returns the service account that makes a call. Its scopes are those in the database, as the roles of users are.
    async fn admin_service(&self, caller: &Caller, scope: Scope) -> Result<Administrator, ApiError> {
        let (id, session_id, valid_at) = (caller.user_id(), caller.session_id(), self.clock.now() - LEEWAY);
        let scopes = service_accounts::by_active_session(&self.db, valid_at, id, session_id).await?;
        let scopes = scopes.ok_or_else(error::token_revoked)?;
        let role = Role::Admin.to_string();
        caller.require_role(&role)?;
        if !roles(scopes).contains(&role) || !scopes.contains(scope) {
            return Err(scope_missing("service account", scope));
        }
        Ok(Administrator { id, session_id, is_service: true, is_program: true, is_limited: true })
    }
}
