//! The accounts.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_look_up, db_read, db_transaction, db_write,
};
use uuid::Uuid;

use super::audit::record;
use crate::model::{
    audit::Event,
    email::Email,
    user::{Credentials, User},
    user_filter::UserFilter,
};

/// Puts the columns of a [`User`] where a statement lists them.
macro_rules! with_columns {
    ($before:literal $(, $after:literal)?) => {
        concat!(
            $before,
            " id, email, display_name, email_verified, roles, disabled, created_at, updated_at "
            $(, $after)?
        )
    };
}

/// A new account. It has no `Debug`, since it holds the hash of a password.
#[derive(Clone)]
pub struct NewUser {
    /// The key.
    pub id: Uuid,
    /// The address.
    pub email: Email,
    /// How the person wants to be called.
    pub display_name: String,
    /// The PHC string.
    pub password_hash: String,
}

/// Makes an account, unless the address has one: then `None`.
pub async fn insert(db: &Db, now: Timestamp, new: NewUser, event: Event) -> Result<Option<User>, Error> {
    const SQL: &str = with_columns!(
        "insert into users (id, email, display_name, password_hash, email_verified, roles, disabled, created_at,
            updated_at)
        values ($1, $2, $3, $4, false, '', false, $5, $5)
        on conflict (email) do nothing
        returning"
    );
    db_transaction!(db, |connection| {
        let insert = sqlx::query_as(SQL)
            .bind(new.id)
            .bind(new.email.as_str())
            .bind(&new.display_name)
            .bind(&new.password_hash)
            .bind(now);
        let user: Option<User> = insert.fetch_optional(&mut *connection).await?;
        if let Some(user) = &user {
            record!(connection, now, user.id, event);
        }
        Ok(user)
    })
}

/// The account of an address, and the hash of its password.
pub async fn by_email(db: &Db, email: &Email) -> Result<Option<Credentials>, Error> {
    const SQL: &str = with_columns!("select", ", password_hash from users where email = $1");
    let email = email.as_str().to_owned();
    db_look_up!(db, |connection| sqlx::query_as(SQL).bind(email).fetch_optional(connection).await)
}

/// An account.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<User>, Error> {
    const SQL: &str = with_columns!("select", "from users where id = $1");
    db_look_up!(db, |connection| sqlx::query_as(SQL).bind(id).fetch_optional(connection).await)
}

/// Changes the display name of an account. `None` if there is no such account.
pub async fn rename(db: &Db, now: Timestamp, id: Uuid, display_name: String) -> Result<Option<User>, Error> {
    const SQL: &str = with_columns!("update users set display_name = $2, updated_at = $3 where id = $1 returning");
    db_write!(db, |connection| {
        sqlx::query_as(SQL).bind(id).bind(&display_name).bind(now).fetch_optional(connection).await
    })
}

/// An account and the hash of its password.
pub async fn credentials(db: &Db, id: Uuid) -> Result<Option<Credentials>, Error> {
    const SQL: &str = with_columns!("select", ", password_hash from users where id = $1");
    db_look_up!(db, |connection| sqlx::query_as(SQL).bind(id).fetch_optional(connection).await)
}

/// Replaces the hash of a password by one of the same password, unless the password has changed meanwhile.
pub async fn rehash(db: &Db, id: Uuid, old: String, new: String) -> Result<(), Error> {
    const SQL: &str = "update users set password_hash = $3 where id = $1 and password_hash = $2";
    db_write!(db, |connection| {
        sqlx::query(SQL).bind(id).bind(&old).bind(&new).execute(connection).await.map(|_| ())
    })
}

/// The accounts that fit a filter, the newest first: those before `before`, not more than `limit`.
pub async fn list(db: &Db, filter: UserFilter, before: Option<Uuid>, limit: usize) -> Result<Vec<User>, Error> {
    const SQL: &str = with_columns!(
        "select",
        "from users
         where ($1 is null or substr(email, 1, length($1)) = $1) and ($2 is null or ' ' || roles || ' ' like $2)
            and ($3 is null or disabled = $3) and ($4 is null or id < $4)
         order by id desc limit $5"
    );
    db_read!(db, |connection| {
        sqlx::query_as(SQL)
            .bind(&filter.email_prefix)
            .bind(filter.role.map(|role| format!("% {role} %")))
            .bind(filter.disabled)
            .bind(before)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
    })
}
