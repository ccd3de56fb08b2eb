//! Deletes expired entries of task histories.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::sweep::{lock_owners, sweep};
use crate::store::history::RETENTION;

/// Maximum number of owners per transaction.
const MAX_OWNERS: i64 = 50;

/// Deletes all entries that have expired, in transactions that delete about `limit` entries of each of a few owners.
/// Returns the number of entries.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_expired(db: &Db, now: Timestamp, limit: i64) -> Result<u64, Error> {
    let mut deleted = 0;
    loop {
        let (entries, is_complete) = sweep(db, move |conn| Box::pin(delete_expired_within(conn, now, limit))).await?;
        deleted += entries;
        if is_complete {
            return Ok(deleted);
        }
    }
}

/// Deletes expired entries of a few owners. Returns their number, and whether no others are left.
async fn delete_expired_within(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<(u64, bool), Error> {
    const DUE: &str = "
        select owner_id from owners where history_due <= $1 order by history_due, owner_id limit $2";
    // The entries of one mutation are deleted together.
    const DELETE: &str = "
        delete from task_history where owner_id = $1 and change <= (
            select max(change) from (
                select change, change_time from task_history where owner_id = $1 order by change limit $3
            ) oldest where change_time <= $2)";
    const OLDEST: &str = "select change_time from task_history where owner_id = $1 order by change limit 1";
    const SCHEDULE: &str = "update owners set history_due = $2 where owner_id = $1";
    let owners: Vec<Uuid> = conn.fetch_all(DUE, args![now, MAX_OWNERS]).await?;
    let mut is_complete = (owners.len() as u64) < MAX_OWNERS.unsigned_abs();
    lock_owners(conn, owners.iter().copied()).await?;
    let mut deleted = 0;
    for owner in owners {
        deleted += conn.execute(DELETE, args![owner, now - RETENTION, limit]).await?;
        let oldest: Option<Timestamp> = conn.fetch_optional(OLDEST, args![owner]).await?;
        let due = oldest.unwrap_or(now) + RETENTION;
        conn.execute(SCHEDULE, args![owner, due]).await?;
        is_complete &= due > now;
    }
    Ok((deleted, is_complete))
}
