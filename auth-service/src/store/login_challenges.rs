//! The challenges of logins that were completed, and those that passkeys have signed. Challenges that are open are not stored.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

/// Completes a challenge within the transaction that starts its session, stores a new passkey, or refuses a suspected copy of
/// a passkey. Returns false if it was completed before.
///
/// # Errors
/// If the database fails.
pub async fn complete_within(conn: &mut Conn, id: Uuid, expires_at: Timestamp) -> Result<bool, Error> {
    const INSERT: &str =
        "insert into completed_challenges (id, expires_at) values ($1, $2) on conflict (id) do nothing";
    Ok(conn.execute(INSERT, args![id, expires_at]).await? > 0)
}

/// Deletes a batch of the challenges that have expired, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn purge(db: &Db, expired_before: Timestamp, limit: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from completed_challenges where id in (
            select id from completed_challenges where expires_at < $1 limit $2)";
    db.execute(DELETE, args![expired_before, limit]).await.map(u64::cast_signed)
}
