//! How an account gets its roles: from an administrator, or at the machine itself.

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

/// Gives an account the roles that `change` makes of those it has. If it loses one, its sessions end: their tokens would
/// still bear it.
///
/// # Errors
/// `USER_NOT_FOUND` or `LAST_ADMIN`.
pub async fn set_roles(
    db: &Db,
    clock: &Clock,
    user_id: Uuid,
    event: &Event,
    change: impl Fn(Roles) -> Roles,
) -> Result<User, ApiError> {
    loop {
        let user = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        let old = Roles::stored(&user.roles);
        let new = change(old.clone());
        if new == old {
            return Ok(user);
        }
        let revokes_sessions = new.lack_any_of(&old);
        let event = event.clone().with("roles", &new);
        let change = RoleChange { old: user.roles.clone(), new, revokes_sessions };
        if let Some(user) = accounts::set_roles(db, clock.now(), user_id, change, event).await? {
            return Ok(user);
        }
        // Either somebody else was faster, and it is tried again, or nobody would be left.
        let again = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        if again.roles == user.roles {
            return Err(error::last_admin());
        }
    }
}
