//! The keys that encrypt the secrets of factors.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error},
};
use uuid::Uuid;

use crate::model::factor::{CONFIRMATION_PERIOD, SealedTotp};

/// Returns at most `limit` secrets after the factor `after`, by id, that another key than the one with this id has
/// encrypted.
///
/// # Errors
/// If the database fails.
pub async fn sealed_with_others(db: &Db, key_id: &str, after: Uuid, limit: i64) -> Result<Vec<SealedTotp>, Error> {
    const SELECT: &str = "
        select id, user_id, sealed_secret, last_step from factors
        where sealed_with <> $1 and id > $2 order by id limit $3";
    db.fetch_all(SELECT, args![key_id, after, limit]).await
}

/// Replaces an encrypted secret with the same secret, encrypted by another key, unless it was replaced before.
///
/// # Errors
/// If the database fails.
pub async fn replace(db: &Db, old: SealedTotp, new: SealedTotp, key_id: String) -> Result<(), Error> {
    const UPDATE: &str = "
        update factors set sealed_secret = $3, sealed_with = $4 where id = $1 and sealed_secret = $2";
    db.execute(UPDATE, args![old.factor_id, old.sealed_secret, new.sealed_secret, key_id]).await.map(drop)
}

/// Returns the number of secrets that the key with this id has encrypted.
///
/// # Errors
/// If the database fails.
pub async fn count_sealed_with(db: &Db, key_id: &str) -> Result<i64, Error> {
    const COUNT: &str = "select count(*) from factors where sealed_with = $1 and confirmed_at is not null";
    db.fetch_optional(COUNT, args![key_id]).await.map(Option::unwrap_or_default)
}

/// Deletes a batch of the secrets that can no longer be confirmed, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn purge_unconfirmed(db: &Db, now: Timestamp, limit: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from factors where id in (
            select id from factors where confirmed_at is null and created_at <= $1 limit $2)";
    db.execute(DELETE, args![now - CONFIRMATION_PERIOD, limit]).await.map(u64::cast_signed)
}
