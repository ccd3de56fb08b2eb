//! Changes the roles of an account, for an administrator or the command-line tool.

use service_kit::{clock::Clock, db::Db, status::ApiError};
use uuid::Uuid;

use crate::{
    error,
    model::{audit::Event, role::Roles, user::User},
    store::{
        accounts::{self, RoleChange},
        users,
    },
};

/// Sets the roles of an account to the result of `change`. If the account loses a role, its sessions are revoked,
/// because their tokens still contain the role.
///
/// # Errors
/// USER_NOT_FOUND or LAST_ADMIN.
pub async fn set_roles(
    db: &Db,
    clock: &Clock,
    user_id: Uuid,
    event: &Event,
    change: impl Fn(Roles) -> Roles,
) -> Result<User, ApiError> {
    loop {
        let user = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        let old = Roles::from_stored(&user.roles);
        let new = change(old.clone());
        if new == old {
            return Ok(user);
        }
        let revokes_sessions = new.lacks_any_of(&old);
        let event = event.clone().with_detail("roles", &new);
        let change = RoleChange { old: user.roles.clone(), new, revokes_sessions };
        if let Some(user) = accounts::set_roles(db, clock.now(), user_id, change, event).await? {
            return Ok(user);
        }
        // Either the roles were changed concurrently, which needs a retry, or no administrator would be left.
        let current = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        if current.roles == user.roles {
            return Err(error::last_admin());
        }
    }
}
