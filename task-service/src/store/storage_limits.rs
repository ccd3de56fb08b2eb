//! Bounds the rows that an account occupies, deleted ones included. Each write that exceeds a limit removes a bounded
//! number of the oldest rows, so that its cost does not depend on how many there are.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Error, QueryBuilder, Value},
};
use uuid::Uuid;

use super::history;

/// Maximum number of deleted tasks of an account, if it has the maximum number of active tasks. They are purged early
/// beyond that. The same limit applies to the tombstones of purged tasks.
pub(crate) const MAX_DELETED_TASKS: i64 = 10_000;

/// Maximum number of tasks that a write purges: more than a batch creates, so that an account gets below its limit.
const MAX_PURGED: i64 = 200;

/// Maximum number of entries of task histories that a write deletes before it purges the tasks.
const MAX_PURGED_ENTRIES: i64 = 10 * MAX_PURGED;

/// Maximum number of tombstones that a write deletes: more than it creates.
const MAX_FORGOTTEN: i64 = 2 * MAX_PURGED;

/// Maximum size of the stored responses of an account. Older ones are deleted.
const MAX_RESPONSE_BYTES: i64 = 16 * 1024 * 1024;

/// What a stored response occupies besides its text. Also bounds the number of responses, to 16,384.
const RESPONSE_OVERHEAD: i64 = 1024;

/// By how much an owner exceeds the limits. Negative below them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excess {
    pub(super) tasks: i64,
    pub(super) tombstones: i64,
}

/// Purges the oldest deleted tasks of an owner and deletes the oldest tombstones, as far as there are too many and one
/// write may. `sequence` is the sequence number of the write. Sync tokens that are older than a deleted tombstone expire.
///
/// # Errors
/// Those of the database.
pub(super) async fn purge_excess(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    sequence: i64,
    excess: Excess,
) -> Result<(), Error> {
    const UPDATE: &str = "
        update owners set task_rows = task_rows - $2, tombstones = tombstones + $2 - $3,
            forgotten = case when forgotten < $4 then $4 else forgotten end
        where owner_id = $1";
    let purged = match excess.tasks.min(MAX_PURGED) {
        limit if limit > 0 => purge_oldest(conn, owner, now, sequence, limit).await?,
        _ => 0,
    };
    let (deleted, forgotten) = match (excess.tombstones + purged).min(MAX_FORGOTTEN) {
        limit if limit > 0 => delete_oldest_tombstones(conn, owner, limit).await?,
        _ => (0, 0),
    };
    if purged + deleted > 0 {
        conn.execute(UPDATE, args![owner, purged, deleted, forgotten]).await?;
    }
    Ok(())
}

/// Purges at most `limit` deleted tasks, and returns their number, which is 0 if their history is too long to be deleted
/// at once. The caller holds the lock of the owner.
async fn purge_oldest(conn: &mut Conn, owner: Uuid, now: Timestamp, sequence: i64, limit: i64) -> Result<i64, Error> {
    const OLDEST: &str = "
        select id from tasks where owner_id = $1 and purge_time is not null order by purge_time, id limit $2";
    let ids: Vec<Uuid> = conn.fetch_all(OLDEST, args![owner, limit]).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    if history::delete_of_tasks(conn, owner, &ids, MAX_PURGED_ENTRIES).await? == MAX_PURGED_ENTRIES.unsigned_abs() {
        // The next write continues.
        return Ok(0);
    }
    let mut tombstones = QueryBuilder::new("insert into removed_tasks (owner_id, id, change, remove_time)");
    tombstones.push_values(ids.iter().map(|id| args![owner, *id, sequence, now]));
    tombstones
        .push(" on conflict (owner_id, id) do update set change = excluded.change, remove_time = excluded.remove_time");
    let mut delete = QueryBuilder::new("delete from tasks where owner_id = ");
    delete.push_bind(owner).push(" and id in ").push_ids(ids.iter().copied());
    for statement in [tombstones, delete] {
        let (sql, values) = statement.build_with_cache(ids.len() == 1);
        conn.execute(sql, values).await?;
    }
    Ok(i64::try_from(ids.len()).unwrap_or(i64::MAX))
}

/// Deletes at most `limit` tombstones. Returns their number, and the last mutation with a deleted tombstone.
async fn delete_oldest_tombstones(conn: &mut Conn, owner: Uuid, limit: i64) -> Result<(i64, i64), Error> {
    const OLDEST: &str = "
        select id, change from removed_tasks where owner_id = $1 order by change, id limit $2";
    let oldest: Vec<(Uuid, i64)> = conn.fetch_all(OLDEST, args![owner, limit]).await?;
    let mut delete = QueryBuilder::new("delete from removed_tasks where owner_id = ");
    delete.push_bind(owner).push(" and id in ").push_ids(oldest.iter().map(|(id, _)| *id));
    let (sql, values) = delete.build_with_cache(oldest.len() == 1);
    conn.execute(sql, values).await?;
    let forgotten = oldest.last().map(|(_, change)| *change).unwrap_or_default();
    Ok((i64::try_from(oldest.len()).unwrap_or(i64::MAX), forgotten))
}

/// Deletes the oldest responses of an owner, to make room for one of this length. Returns the position of the new one.
///
/// # Errors
/// Those of the database.
pub(super) async fn make_room_for_response(conn: &mut Conn, owner: Uuid, length: usize) -> Result<i64, Error> {
    const COUNT: &str = "
        update owners set response_bytes = response_bytes + $2 where owner_id = $1 returning response_bytes";
    const DELETE: &str = "delete from requests where owner_id = $1 and position < $2";
    let bytes = response_size(length);
    let end: i64 = conn.fetch_one(COUNT, args![owner, bytes]).await?;
    if end > MAX_RESPONSE_BYTES {
        conn.execute(DELETE, args![owner, end - MAX_RESPONSE_BYTES]).await?;
    }
    Ok(end - bytes)
}

/// Returns what a stored response with a text of this length occupies.
pub(super) fn response_size(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(MAX_RESPONSE_BYTES).saturating_add(RESPONSE_OVERHEAD)
}

/// Deletes the oldest responses of owners, each with the size of all of its responses so far. Only for PostgreSQL.
///
/// # Errors
/// Those of the database.
pub(super) async fn delete_oldest_responses(
    conn: &mut Conn,
    owners: impl Iterator<Item = (Uuid, i64)>,
) -> Result<(), Error> {
    const DELETE: &str = "
        delete from requests using unnest($1::uuid[], $2::bigint[]) excess (owner, first)
        where owner_id = owner and position < first";
    let excess = owners.filter(|(_, size)| *size > MAX_RESPONSE_BYTES);
    let excess: Vec<_> = excess.map(|(owner, size)| args![owner, size - MAX_RESPONSE_BYTES]).collect();
    if excess.is_empty() { Ok(()) } else { conn.execute(DELETE, Value::arrays(excess)).await.map(drop) }
}
