//! Changes to accounts that may revoke sessions. Each change is one transaction that includes the account, its sessions
//! and the audit log.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::{
    audit, email_changes, factors, login_attempts, mails, passkeys, personal_access_tokens,
    revocations::{RevocationReason, SessionSelector, revoke_within},
    user_changes::{self, UserState},
};
use crate::model::{
    audit::Event,
    login_throttle,
    mail::NewMail,
    role::{Role, Roles},
    user::{Credentials, User},
};

/// Advisory lock that serializes transactions that could remove the last administrator. Row locks could deadlock with
/// transactions that revoke sessions, which lock rows in another order. The number is arbitrary.
const ADMINS_LOCK: i64 = 0x0061_646d_696e_7301;

/// Sets the password hash of an account, revokes its sessions except `except`, and stores the notice about it. Returns
/// `None` if the password was changed after `verified_version` was read.
///
/// # Errors
/// If the database fails.
pub async fn change_password(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    verified_version: i64,
    new_hash: String,
    except: Option<Uuid>,
    (event, notice): (Event, Option<NewMail>),
) -> Result<Option<User>, Error> {
    const UPDATE: &str = "
        update users set password_hash = $3, password_version = password_version + 1,
            updated_at = case when updated_at >= $4 then updated_at + 1 else $4 end
        where id = $1 and password_version = $2
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    db.write(move |conn| {
        Box::pin(async move {
            let user: Option<User> =
                conn.fetch_optional(UPDATE, args![user_id, verified_version, new_hash, now]).await?;
            if let Some(user) = &user {
                revoke_all(conn, now, user.id, except).await?;
                audit::insert(conn, now, user.id, &event).await?;
                mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            }
            Ok(user)
        })
    })
    .await
}

/// Sets the password hash of an account whose owner has forgotten the password, revokes its sessions, resets the counters
/// of wrong passwords, and stores the notice about it. The address is then verified, and nobody can undo that the account has
/// it. Returns false if the account was changed after it was read.
///
/// # Errors
/// If the database fails.
pub async fn reset_password(
    db: &Db,
    now: Timestamp,
    account: Credentials,
    new_hash: String,
    (event, notice): (Event, Option<NewMail>),
) -> Result<bool, Error> {
    const UPDATE: &str = "
        update users set password_hash = $4, password_version = password_version + 1, email_verified = true,
            updated_at = case when updated_at >= $5 then updated_at + 1 else $5 end
        where id = $1 and password_version = $2 and email_version = $3 and not disabled";
    let Credentials { user, password_version, email_version, .. } = account;
    db.write(move |conn| {
        Box::pin(async move {
            let values = args![user.id, password_version, email_version, new_hash, now];
            if conn.execute(UPDATE, values).await? == 0 {
                return Ok(false);
            }
            login_attempts::reset_within(conn, &login_throttle::address_key(&user.email)).await?;
            revoke_all(conn, now, user.id, None).await?;
            email_changes::void_links_within(conn, user.id, &user.email).await?;
            audit::insert(conn, now, user.id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(true)
        })
    })
    .await
}

/// Disables an account and revokes its sessions, or enables it again, and adds this to the list of changes of accounts.
/// Returns `None` if nothing would change, or no enabled account would have the role `admin`.
///
/// # Errors
/// If the database fails.
pub async fn set_disabled(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    disabled: bool,
    event: Event,
) -> Result<Option<User>, Error> {
    const UPDATE: &str = "
        update users set disabled = $2, updated_at = case when updated_at >= $3 then updated_at + 1 else $3 end
        where id = $1 and disabled <> $2 and (not $2
            or ' ' || roles || ' ' not like '% admin %'
            or exists (
                select 1 from users others
                where others.id <> users.id and not others.disabled and ' ' || others.roles || ' ' like '% admin %'))
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(ADMINS_LOCK).await?;
            let user: Option<User> = conn.fetch_optional(UPDATE, args![user_id, disabled, now]).await?;
            match &user {
                Some(user) => {
                    let state = if disabled { UserState::Disabled } else { UserState::Enabled };
                    if disabled {
                        revoke_all(conn, now, user.id, None).await?;
                    }
                    user_changes::insert(conn, user.id, state).await?;
                    audit::insert(conn, now, user.id, &event).await?;
                }
                None => user_changes::insert_missing(conn, user_id, disabled).await?,
            }
            Ok(user)
        })
    })
    .await
}

/// The roles of an account before and after a change.
#[derive(Clone, Debug)]
pub struct RoleChange {
    /// The roles that are stored.
    pub old: String,
    /// The roles to store.
    pub new: Roles,
    /// Whether to revoke the sessions, because their tokens still contain a removed role.
    pub revokes_sessions: bool,
}

/// Replaces the roles of an account. Returns `None` if the stored roles are no longer `old`, or no enabled account
/// would have the role `admin`.
///
/// # Errors
/// If the database fails.
pub async fn set_roles(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    change: RoleChange,
    event: Event,
) -> Result<Option<User>, Error> {
    const UPDATE: &str = "
        update users set roles = $3, updated_at = case when updated_at >= $5 then updated_at + 1 else $5 end
        where id = $1 and roles = $2 and ($4
            or ' ' || roles || ' ' not like '% admin %'
            or exists (
                select 1 from users others
                where others.id <> users.id and not others.disabled and ' ' || others.roles || ' ' like '% admin %'))
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(ADMINS_LOCK).await?;
            let RoleChange { old, new, revokes_sessions } = change;
            let remains_admin = new.contains(Role::Admin);
            let values = args![user_id, old, new.to_string(), remains_admin, now];
            let user: Option<User> = conn.fetch_optional(UPDATE, values).await?;
            if let Some(user) = &user {
                if revokes_sessions {
                    revoke_all(conn, now, user.id, None).await?;
                }
                audit::insert(conn, now, user.id, &event).await?;
            }
            Ok(user)
        })
    })
    .await
}

/// Deletes an account, revokes its sessions and adds this to the list of changes of accounts. Returns `None` if the
/// password was changed after `verified_version` was read, or no enabled account would have the role `admin`.
///
/// # Errors
/// If the database fails.
pub async fn delete(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    verified_version: i64,
    event: Event,
) -> Result<Option<User>, Error> {
    const DELETE: &str = "
        delete from users
        where id = $1 and password_version = $2
            and (' ' || roles || ' ' not like '% admin %'
                or exists (
                    select 1 from users others
                    where others.id <> users.id and not others.disabled and ' ' || others.roles || ' ' like '% admin %'))
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    // Removes the personal data of the sessions. The rows stay, because they record the revocations.
    const SCRUB_SESSIONS: &str = "update sessions set label = '', user_agent = '', ip_address = '' where user_id = $1";
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(ADMINS_LOCK).await?;
            let user: Option<User> = conn.fetch_optional(DELETE, args![user_id, verified_version]).await?;
            if let Some(user) = &user {
                // Runs before the revocation, because the rows of sessions must be locked before that of the feed.
                conn.execute(SCRUB_SESSIONS, args![user.id]).await?;
                revoke_all(conn, now, user.id, None).await?;
                personal_access_tokens::delete_all_within(conn, user.id).await?;
                factors::delete_all_within(conn, user.id).await?;
                passkeys::delete_user_handle_within(conn, user.id).await?;
                user_changes::insert(conn, user.id, UserState::Deleted).await?;
                mails::delete_within(conn, user.id).await?;
                login_attempts::delete_within(conn, &login_throttle::address_key(&user.email)).await?;
                audit::insert(conn, now, user.id, &event).await?;
            }
            Ok(user)
        })
    })
    .await
}

async fn revoke_all(conn: &mut Conn, now: Timestamp, user_id: Uuid, except: Option<Uuid>) -> Result<(), Error> {
    let selector = SessionSelector::AllOfUser { user_id, except };
    revoke_within(conn, now, selector, RevocationReason::Requested).await.map(drop)
}
