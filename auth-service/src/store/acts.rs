//! What changes what an account may do: each in one transaction with the end of its sessions, their entries in the feed
//! and the event in the audit log.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_transaction,
};
use uuid::Uuid;

use super::{
    audit::record,
    deletions::{SCRUB_SESSIONS, enter},
    revocations::{Ended, Which, Why, end_sessions},
};
use crate::model::{
    audit::Event,
    role::{Role, Roles},
    user::User,
};

/// What changes at the account itself. It has no `Debug`, since it holds hashes of passwords.
#[derive(Clone)]
pub enum Change {
    /// It gets another password, if the one that `old` is the hash of is still good.
    Password {
        /// The account.
        user_id: Uuid,
        /// The PHC string that was compared.
        old: String,
        /// The PHC string of the new one.
        new: String,
    },
    /// It may not log in any more, or may again, unless nobody would be left who has the role `admin`.
    Disabled {
        /// The account.
        user_id: Uuid,
        /// Whether it may not.
        disabled: bool,
    },
    /// It gets other roles, if it has `old`, unless nobody would be left who has the role `admin`.
    Roles {
        /// The account.
        user_id: Uuid,
        /// As they are stored.
        old: String,
        /// Those from now on.
        new: Roles,
    },
    /// It is deleted, if the password that `old` is the hash of is still good, unless nobody would be left who has the
    /// role `admin`.
    Deleted {
        /// The account.
        user_id: Uuid,
        /// The PHC string that was compared.
        old: String,
    },
}

impl Change {
    /// Whether there may be one administrator less afterwards.
    fn may_take_an_admin(&self) -> bool {
        !matches!(self, Self::Password { .. })
    }
}

/// Something that is done to an account.
#[derive(Clone)]
pub struct Act {
    /// What changes. Where it finds nothing to change, nothing else is done either.
    pub change: Option<Change>,
    /// Which sessions end.
    pub end: Option<(Which, Why)>,
    /// What the audit log says. Where nothing changes and no session ends, it says nothing.
    pub event: Event,
}

/// What has come of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The account as it is now, or was when it was deleted, if it was to change.
    pub user: Option<User>,
    /// The sessions that have ended.
    pub ended: Vec<Ended>,
}

macro_rules! returning_user {
    ($statement:literal) => {
        concat!(
            $statement,
            " returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at"
        )
    };
}

/// Whether an account is no administrator, or there is another one who can log in.
macro_rules! is_not_the_last_admin {
    () => {
        "(' ' || roles || ' ' not like '% admin %' or exists (
            select 1 from users others
            where others.id <> users.id and not others.disabled and ' ' || others.roles || ' ' like '% admin %'))"
    };
}

/// Makes those wait for each other who might take the last administrator away together. A lock of its own, since rows
/// are locked in another order by those who end sessions. `SQLite` has one writer anyway.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock($1)";

/// The number has no meaning.
const ADMINS_LOCK: i64 = 0x0061_646d_696e_7301;

/// Does it.
pub async fn perform(db: &Db, now: Timestamp, act: Act) -> Result<Outcome, Error> {
    const PASSWORD: &str =
        returning_user!("update users set password_hash = $3, updated_at = $4 where id = $1 and password_hash = $2");
    const DISABLED: &str = concat!(
        "update users set disabled = $2, updated_at = $3 where id = $1 and disabled <> $2 and (not $2 or ",
        is_not_the_last_admin!(),
        returning_user!(")")
    );
    const ROLES: &str = concat!(
        "update users set roles = $3, updated_at = $5 where id = $1 and roles = $2 and ($4 or ",
        is_not_the_last_admin!(),
        returning_user!(")")
    );
    const DELETED: &str = concat!(
        "delete from users where id = $1 and password_hash = $2 and ",
        is_not_the_last_admin!(),
        returning_user!("")
    );
    let replicated = matches!(db, Db::Postgres(_));
    db_transaction!(db, |connection| {
        let Act { change, end, event } = act;
        let (changes, deletes) = (change.is_some(), matches!(change, Some(Change::Deleted { .. })));
        if replicated && change.as_ref().is_some_and(Change::may_take_an_admin) {
            sqlx::query(ONE_AT_A_TIME).bind(ADMINS_LOCK).execute(&mut *connection).await?;
        }
        let user: Option<User> = match change {
            None => None,
            Some(Change::Password { user_id, old, new }) => {
                let update = sqlx::query_as(PASSWORD).bind(user_id).bind(old).bind(new).bind(now);
                update.fetch_optional(&mut *connection).await?
            }
            Some(Change::Disabled { user_id, disabled }) => {
                let update = sqlx::query_as(DISABLED).bind(user_id).bind(disabled).bind(now);
                update.fetch_optional(&mut *connection).await?
            }
            Some(Change::Roles { user_id, old, new }) => {
                let stays_admin = new.contains(Role::Admin);
                let update = sqlx::query_as(ROLES).bind(user_id).bind(old).bind(new.to_string()).bind(stays_admin);
                update.bind(now).fetch_optional(&mut *connection).await?
            }
            Some(Change::Deleted { user_id, old }) => {
                sqlx::query_as(DELETED).bind(user_id).bind(old).fetch_optional(&mut *connection).await?
            }
        };
        let deleted = user.as_ref().map(|user| user.id).filter(|_| deletes);
        if let Some(user_id) = deleted {
            // Before they end: who ends sessions locks them first and the feed after them.
            sqlx::query(SCRUB_SESSIONS).bind(user_id).execute(&mut *connection).await?;
        }
        let ended = match end {
            Some((which, why)) if user.is_some() || !changes => {
                end_sessions!(connection, replicated, now, which, why)
            }
            _ => Vec::new(),
        };
        if let Some(user_id) = deleted {
            enter!(connection, replicated, user_id);
        }
        // A logout says which session, and its row says whose it was.
        let about = user.as_ref().map(|user| user.id).or_else(|| ended.first().map(|ended| ended.user_id));
        if let Some(user_id) = about {
            record!(connection, now, user_id, event);
        }
        Ok(Outcome { user, ended })
    })
}
