//! The SQL of the background jobs, which write rows of any owner in batches.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, QueryBuilder},
};
use uuid::Uuid;

use crate::store::history;

/// The key of the advisory lock of these writes. Without the lock, two of them could lock the same rows in different
/// orders and deadlock. Also, if another replica deleted rows of a batch, the batch would not be full, and would seem
/// to be the last one. The number is arbitrary.
const SWEEP_LOCK: i64 = 0x0074_6173_6b73_7701;

/// Executes a batch, while no replica executes another one.
pub(super) async fn sweep<T, F>(db: &Db, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
{
    db.write(|conn| {
        Box::pin(async move {
            conn.advisory_lock(SWEEP_LOCK).await?;
            work(conn).await
        })
    })
    .await
}

/// Purges at most `limit` tasks after their purge time, and returns their number. The purge is a mutation of each
/// owner, so that it is in the change feed, and blocks the owner's other mutations until the commit. The history of the
/// tasks, which may be long, is deleted before in transactions of its own.
///
/// # Errors
/// Those of the database.
pub(crate) async fn purge(db: &Db, now: Timestamp, limit: i64) -> Result<u64, Error> {
    loop {
        if let Some(purged) = sweep(db, move |conn| Box::pin(purge_within(conn, now, limit))).await? {
            return Ok(purged);
        }
    }
}

/// Deletes at most `limit` entries of the history of the due tasks and, if these were the last ones, purges the tasks.
/// Returns the number of purged tasks, or `None` if there are more entries.
async fn purge_within(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<Option<u64>, Error> {
    const DUE: &str = "
        select owner_id, id from tasks where purge_time <= $1 order by purge_time, owner_id, id limit $2";
    const ADD_TOMBSTONES: &str = "
        insert into removed_tasks (owner_id, id, change, remove_time)
        select task.owner_id, task.id, owner.last_change, ";
    const ON_CONFLICT: &str = "
        on conflict (owner_id, id) do update set change = excluded.change, remove_time = excluded.remove_time";
    const COUNT: &str = "
        update owners set task_rows = task_rows - $2, tombstones = tombstones + $2 where owner_id = $1";
    let due: Vec<(Uuid, Uuid)> = conn.fetch_all(DUE, args![now, limit]).await?;
    if due.is_empty() {
        return Ok(Some(0));
    }
    let owners: Vec<Uuid> = due.iter().map(|(owner, _)| *owner).collect();
    lock_owners(conn, owners.iter().copied()).await?;
    if history::delete_of_due_tasks(conn, now, limit).await? == limit.unsigned_abs() {
        return Ok(None);
    }
    begin_mutations(conn, owners).await?;
    // A task that was undeleted meanwhile is no longer due.
    let mut tombstones = QueryBuilder::new(ADD_TOMBSTONES);
    tombstones.push_bind(now).push(" from tasks task join owners owner on owner.owner_id = task.owner_id");
    tombstones.push(" where task.purge_time <= ").push_bind(now);
    tombstones.push(" and (task.owner_id, task.id) in ");
    push_pairs(&mut tombstones, &due);
    tombstones.push(ON_CONFLICT);
    execute(conn, tombstones).await?;
    let mut delete = QueryBuilder::new("delete from tasks where purge_time <= ");
    delete.push_bind(now).push(" and (owner_id, id) in ");
    push_pairs(&mut delete, &due);
    delete.push(" returning owner_id");
    let (sql, values) = delete.build();
    let purged: Vec<Uuid> = conn.fetch_all(sql, values).await?;
    for (owner, count) in count_per_owner(purged.iter().copied()) {
        conn.execute(COUNT, args![owner, count]).await?;
    }
    Ok(Some(purged.len() as u64))
}

fn count_per_owner(owners: impl Iterator<Item = Uuid>) -> BTreeMap<Uuid, i64> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner).or_default() += 1;
    }
    counts
}

/// Locks owners against their mutations, which change the same rows in another order.
pub(super) async fn lock_owners(conn: &mut Conn, owners: impl Iterator<Item = Uuid>) -> Result<(), Error> {
    let owners: BTreeSet<Uuid> = owners.collect();
    let mut lock = QueryBuilder::new("update owners set last_change = last_change where owner_id in ");
    lock.push_ids(owners);
    execute(conn, lock).await.map(drop)
}

/// Deletes at most `limit` tombstones from before an instant, and returns their number. Sync tokens that are older
/// than a deleted tombstone expire.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_tombstones(db: &Db, before: Timestamp, limit: i64) -> Result<u64, Error> {
    sweep(db, move |conn| Box::pin(delete_tombstones_within(conn, before, limit))).await
}

async fn delete_tombstones_within(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<u64, Error> {
    const OLD: &str = "
        select owner_id, id, change from removed_tasks where remove_time < $1 order by remove_time, owner_id, id limit $2";
    const FORGOTTEN: &str = "
        update owners set tombstones = tombstones - $3, forgotten = case when forgotten < $2 then $2 else forgotten end
        where owner_id = $1";
    let old: Vec<(Uuid, Uuid, i64)> = conn.fetch_all(OLD, args![before, limit]).await?;
    if old.is_empty() {
        return Ok(0);
    }
    lock_owners(conn, old.iter().map(|(owner, ..)| *owner)).await?;
    // A mutation of the owner may have deleted some meanwhile.
    let mut delete = QueryBuilder::new("delete from removed_tasks where (owner_id, id) in ");
    delete.push_id_pairs(old.iter().map(|(owner, id, _)| (*owner, *id))).push(" returning owner_id, change");
    let (sql, values) = delete.build();
    let deleted: Vec<(Uuid, i64)> = conn.fetch_all(sql, values).await?;
    let mut forgotten: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for (owner, change) in deleted {
        let (last, count) = forgotten.entry(owner).or_default();
        (*last, *count) = ((*last).max(change), *count + 1);
    }
    for (owner, (change, count)) in forgotten {
        conn.execute(FORGOTTEN, args![owner, change, count]).await?;
    }
    Ok(old.len() as u64)
}

/// Deletes at most `limit` stored responses from before an instant, and returns their number.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_responses(db: &Db, before: Timestamp, limit: i64) -> Result<u64, Error> {
    sweep(db, move |conn| Box::pin(delete_responses_within(conn, before, limit))).await
}

async fn delete_responses_within(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<u64, Error> {
    const OLD: &str = "
        select owner_id, id from requests where create_time <= $1 order by create_time, owner_id, id limit $2";
    let old: Vec<(Uuid, Uuid)> = conn.fetch_all(OLD, args![before, limit]).await?;
    if old.is_empty() {
        return Ok(0);
    }
    lock_owners(conn, old.iter().map(|(owner, _)| *owner)).await?;
    // The id of an old request may have been used again meanwhile.
    let mut delete = QueryBuilder::new("delete from requests where create_time <= ");
    delete.push_bind(before).push(" and (owner_id, id) in ");
    push_pairs(&mut delete, &old);
    execute(conn, delete).await?;
    Ok(old.len() as u64)
}

/// Begins a mutation of each of these owners.
pub(super) async fn begin_mutations(conn: &mut Conn, mut owners: Vec<Uuid>) -> Result<(), Error> {
    owners.dedup();
    let mut increment = QueryBuilder::new("update owners set last_change = last_change + 1 where owner_id in ");
    increment.push_ids(owners);
    execute(conn, increment).await.map(drop)
}

pub(super) fn push_pairs(builder: &mut QueryBuilder, pairs: &[(Uuid, Uuid)]) {
    builder.push_id_pairs(pairs.iter().copied());
}

pub(super) async fn execute(conn: &mut Conn, statement: QueryBuilder) -> Result<u64, Error> {
    let (sql, values) = statement.build();
    conn.execute(sql, values).await
}
