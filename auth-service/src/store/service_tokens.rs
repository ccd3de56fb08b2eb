//! Service tokens.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error},
};

use crate::model::service_token::{ServiceName, ServiceTokenHash};

/// Adds a token.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, name: ServiceName, hash: ServiceTokenHash) -> Result<(), Error> {
    const INSERT: &str = "insert into service_tokens (hash, name, created_at) values ($1, $2, $3)";
    db.execute(INSERT, args![hash.0, name.0, now]).await.map(drop)
}

/// Removes the tokens of a service and returns their number.
///
/// # Errors
/// If the database fails.
pub async fn remove(db: &Db, name: ServiceName) -> Result<u64, Error> {
    db.execute("delete from service_tokens where name = $1", args![name.0]).await
}

/// Returns the name of the service that a token belongs to, or `None` if the token is not valid.
///
/// # Errors
/// If the database fails.
pub async fn service_name(db: &Db, hash: &ServiceTokenHash) -> Result<Option<String>, Error> {
    db.fetch_optional("select name from service_tokens where hash = $1", args![hash.0.clone()]).await
}
