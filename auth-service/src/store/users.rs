//! Creates, reads and updates accounts. Changes that may revoke sessions are in `accounts`.

use service_kit::{
    args,
    auth::scope::Scopes,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, QueryBuilder, Row, Searches},
    status::ApiError,
};
use uuid::Uuid;

use super::{
    audit,
    email_changes::{OWNER, lock_addresses_within, undoable_since},
    mails,
};
use crate::model::{
    audit::Event,
    email::Email,
    mail::NewMail,
    personal_access_token::scopes_from_stored,
    user::{Credentials, User},
    user_filter::{UserCondition, UserFilter},
};

impl FromRow for User {
    /// Reads `id, email, display_name, email_verified, roles, disabled, created_at, updated_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            email: row.next()?,
            display_name: row.next()?,
            email_verified: row.next()?,
            roles: row.next()?,
            disabled: row.next()?,
            created_at: row.next()?,
            updated_at: row.next()?,
        })
    }
}

impl FromRow for Credentials {
    /// Reads the columns of a [`User`], `password_hash`, `password_version` and `email_version`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            user: User::from_row(row)?,
            password_hash: row.next()?,
            password_version: row.next()?,
            email_version: row.next()?,
        })
    }
}

/// A new account. Does not implement `Debug`, because it contains a password hash.
#[derive(Clone)]
pub struct NewUser {
    /// The primary key.
    pub id: Uuid,
    /// The email address.
    pub email: Email,
    /// The display name.
    pub display_name: String,
    /// The password hash, a PHC string.
    pub password_hash: String,
}

impl NewUser {
    /// Returns the account as it will be.
    #[must_use]
    pub fn credentials(&self, now: Timestamp) -> Credentials {
        let user = User {
            id: self.id,
            email: self.email.as_str().to_owned(),
            display_name: self.display_name.clone(),
            email_verified: false,
            roles: String::new(),
            disabled: false,
            created_at: now,
            updated_at: now,
        };
        Credentials { user, password_hash: self.password_hash.clone(), password_version: 0, email_version: 0 }
    }
}

/// Creates an account, and stores the mail to its address. Returns `None` if an account has the email address, or had it
/// before a change that can be undone.
///
/// # Errors
/// If the database fails.
pub async fn insert(
    db: &Db,
    now: Timestamp,
    new: NewUser,
    (event, mail): (Event, Option<NewMail>),
) -> Result<Option<User>, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let user = insert_within(conn, now, new).await?;
            if let Some(user) = &user {
                audit::insert(conn, now, user.id, &event).await?;
                mails::insert_optional_within(conn, now, mail.as_ref()).await?;
            }
            Ok(user)
        })
    })
    .await
}

/// Creates an account as [`insert`], or stores a mail to the owner of the address. Takes equally long in both cases.
///
/// # Errors
/// If the database fails.
pub async fn insert_or_notify(
    db: &Db,
    now: Timestamp,
    new: NewUser,
    event: Event,
    [mail, notice]: [Option<NewMail>; 2],
) -> Result<Option<User>, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let email = new.email.clone();
            let user = insert_within(conn, now, new).await?;
            if let Some(user) = &user {
                audit::insert(conn, now, user.id, &event).await?;
                mails::insert_optional_within(conn, now, mail.as_ref()).await?;
            } else {
                let user_id = conn.fetch_one(OWNER, args![email.as_str(), undoable_since(now)]).await?;
                audit::insert_unknown(conn, now, user_id, &event).await?;
                let notice = notice.map(|notice| NewMail { user_id, ..notice });
                mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            }
            Ok(user)
        })
    })
    .await
}

async fn insert_within(conn: &mut Conn, now: Timestamp, new: NewUser) -> Result<Option<User>, Error> {
    const INSERT: &str = "
        insert into users (id, email, display_name, password_hash, email_verified, roles, disabled, created_at,
            updated_at)
        select $1, $2, $3, $4, false, '', false, $5, $5
        where not exists (
            select 1 from mails
            where template = 'EMAIL_CHANGED' and recipient = $2 and account_state <> '' and mails.created_at > $6)
        on conflict (email) do nothing
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    let NewUser { id, email, display_name, password_hash } = new;
    lock_addresses_within(conn, &[email.as_str()]).await?;
    let values = args![id, email.as_str(), display_name, password_hash, now, undoable_since(now)];
    conn.fetch_optional(INSERT, values).await
}

/// Returns the account of an email address and its password hash.
///
/// # Errors
/// If the database fails.
pub async fn credentials_by_email(db: &Db, email: &Email) -> Result<Option<Credentials>, Error> {
    const SELECT: &str = "
        select id, email, display_name, email_verified, roles, disabled, created_at, updated_at, password_hash,
            password_version, email_version
        from users where email = $1";
    db.fetch_optional(SELECT, args![email.as_str()]).await
}

/// Returns an account.
///
/// # Errors
/// If the database fails.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<User>, Error> {
    const SELECT: &str = "
        select id, email, display_name, email_verified, roles, disabled, created_at, updated_at
        from users where id = $1";
    db.fetch_optional(SELECT, args![id]).await
}

/// The account of an active session.
#[derive(Clone, Debug)]
pub struct SessionUser {
    /// The account.
    pub user: User,
    /// When the user last proved a factor in the session.
    pub authenticated_at: Timestamp,
    /// What the access tokens of the session permit, if they are limited.
    pub scopes: Option<Scopes>,
}

impl SessionUser {
    /// Reports whether an access token of the session can have these scopes. Holders of a shared key could sign others.
    #[must_use]
    pub fn permits(&self, scopes: Option<Scopes>) -> bool {
        let is_subset = |all: Scopes| scopes.is_some_and(|scopes| scopes.iter().all(|scope| all.contains(scope)));
        self.scopes.is_none_or(is_subset)
    }
}

impl FromRow for SessionUser {
    /// Reads the columns of a [`User`], when the user last proved a factor, and `scope`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (user, authenticated_at, scopes) = (User::from_row(row)?, row.next()?, row.next::<Option<String>>()?);
        Ok(Self { user, authenticated_at, scopes: scopes.map(|scopes| scopes_from_stored(&scopes)) })
    }
}

/// Returns the account of a session. Returns `None` if the session has ended before `valid_at`, does or does not belong to
/// a personal access token, contrary to `personal_access_token`, or the account is disabled or deleted.
///
/// # Errors
/// If the database fails.
pub async fn by_active_session(
    db: &Db,
    valid_at: Timestamp,
    user_id: Uuid,
    session_id: Uuid,
    personal_access_token: bool,
) -> Result<Option<SessionUser>, Error> {
    const SELECT: &str = "
        select users.id, email, display_name, email_verified, roles, disabled, users.created_at, updated_at,
            coalesce(authenticated_at, sessions.created_at), scope
        from sessions join users on users.id = sessions.user_id
        where sessions.id = $1 and sessions.user_id = $2 and revoked_at is null and expires_at > $3
            and not disabled and personal_access_token = $4";
    db.fetch_optional(SELECT, args![session_id, user_id, valid_at, personal_access_token]).await
}

/// Changes the display name of an account. Returns `None` if the account does not exist.
///
/// # Errors
/// If the database fails.
pub async fn rename(db: &Db, now: Timestamp, id: Uuid, display_name: String) -> Result<Option<User>, Error> {
    const UPDATE: &str = "
        update users set display_name = $2, updated_at = case when updated_at >= $3 then updated_at + 1 else $3 end
        where id = $1
        returning id, email, display_name, email_verified, roles, disabled, created_at, updated_at";
    db.execute_returning(UPDATE, args![id, display_name, now]).await
}

/// Returns an account and its password hash.
///
/// # Errors
/// If the database fails.
pub async fn credentials_by_id(db: &Db, id: Uuid) -> Result<Option<Credentials>, Error> {
    const SELECT: &str = "
        select id, email, display_name, email_verified, roles, disabled, created_at, updated_at, password_hash,
            password_version, email_version
        from users where id = $1";
    db.fetch_optional(SELECT, args![id]).await
}

/// Replaces a password hash with another hash of the same password, unless it was replaced in the meantime.
///
/// # Errors
/// If the database fails.
pub async fn rehash(db: &Db, id: Uuid, old: String, new: String) -> Result<(), Error> {
    const UPDATE: &str = "update users set password_hash = $3 where id = $1 and password_hash = $2";
    db.execute(UPDATE, args![id, old, new]).await.map(drop)
}

/// Returns at most `limit` accounts that match the filter of a caller, newest first. If `before` is set, returns only
/// older accounts.
///
/// # Errors
/// FILTER_TOO_EXPENSIVE, OVERLOADED, and those of the database.
pub async fn list(
    db: &Db,
    searches: &Searches,
    caller: Uuid,
    filter: &UserFilter,
    before: Option<Uuid>,
    limit: usize,
) -> Result<Vec<User>, ApiError> {
    const SELECT: &str = "
        select id, email, display_name, email_verified, roles, disabled, created_at, updated_at
        from users where ";
    let mut sql = QueryBuilder::new(SELECT);
    filter.push(&mut sql, push_condition);
    if let Some(before) = before {
        sql.push(" and id < ").push_bind(before);
    }
    sql.push(" order by id desc limit ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    // Statements with a filter are not cached, because there are too many variants.
    let (sql, args) = sql.build_with_cache(filter.is_empty());
    Ok(if filter.is_empty() { db.fetch_all(sql, args).await? } else { searches.fetch_all(caller, (sql, args)).await? })
}

fn push_condition(sql: &mut QueryBuilder, condition: &UserCondition) {
    match condition {
        // `like` would need escapes.
        UserCondition::EmailPrefix(prefix) => {
            let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
            sql.push("substr(email, 1, cast(").push_bind(length).push(" as int)) = ").push_bind(prefix.clone());
        }
        UserCondition::Role(role) => {
            sql.push("' ' || roles || ' ' like ").push_bind(format!("% {role} %"));
        }
        UserCondition::Disabled(disabled) => {
            sql.push("disabled = ").push_bind(*disabled);
        }
    }
}
