//! The tokens of services.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_look_up, db_write,
};

use crate::model::service_token::{Hash, Name};

/// Adds a token.
pub async fn insert(db: &Db, now: Timestamp, name: Name, hash: Hash) -> Result<(), Error> {
    const SQL: &str = "insert into service_tokens (hash, name, created_at) values ($1, $2, $3)";
    db_write!(db, |connection| {
        sqlx::query(SQL).bind(&hash.0).bind(&name.0).bind(now).execute(connection).await.map(|_| ())
    })
}

/// Removes the tokens of a name, and says how many there were.
pub async fn remove(db: &Db, name: Name) -> Result<u64, Error> {
    const SQL: &str = "delete from service_tokens where name = $1";
    db_write!(db, |connection| {
        sqlx::query(SQL).bind(&name.0).execute(connection).await.map(|done| done.rows_affected())
    })
}

/// Whose a token is; `None` if it is nobody's.
pub async fn name(db: &Db, hash: &Hash) -> Result<Option<String>, Error> {
    const SQL: &str = "select name from service_tokens where hash = $1";
    let hash = hash.0.clone();
    db_look_up!(db, |connection| sqlx::query_scalar(SQL).bind(hash).fetch_optional(connection).await)
}
