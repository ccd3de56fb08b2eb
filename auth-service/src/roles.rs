//! How an account gets its roles: from an administrator, or at the machine itself.

use service_kit::{clock::Clock, db::Db, status::Refusal};
use uuid::Uuid;

use crate::{
    error,
    model::{audit::Event, role::Roles, user::User},
    store::{
        acts::{self, Act, Change},
        revocations::{Which, Why},
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
) -> Result<User, Refusal> {
    loop {
        let user = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        let old = Roles::stored(&user.roles);
        let new = change(old.clone());
        if new == old {
            return Ok(user);
        }
        let end = new.lack_any_of(&old).then_some((Which::AllOfUser { user_id, except: None }, Why::Wanted));
        let event = event.clone().with("roles", &new);
        let change = Some(Change::Roles { user_id, old: user.roles.clone(), new });
        if let Some(user) = acts::perform(db, clock.now(), Act { change, end, event }).await?.user {
            return Ok(user);
        }
        // Either somebody else was faster, and it is tried again, or nobody would be left.
        let again = users::by_id(db, user_id).await?.ok_or_else(error::user_not_found)?;
        if again.roles == user.roles {
            return Err(error::last_admin());
        }
    }
}
