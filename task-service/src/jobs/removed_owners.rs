//! The SQL of the deletion of all rows of deleted accounts, in batches.

use std::time::Duration;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, QueryBuilder},
};
use uuid::Uuid;

use super::sweep::{execute, lock_owners, sweep};

/// Delay between receiving a deleted account and deleting its data a second time. A call in progress, or a token that
/// is accepted while revocations cannot be received, may create a task after the first deletion. Tokens are valid for
/// at most 15 minutes, and the maximum staleness is another 15 minutes; the rest is a margin.
pub(crate) const SECOND_SWEEP_DELAY: Duration = Duration::from_secs(3600);

/// Stores the owners of deleted accounts, due now. No owner may occur twice.
///
/// # Errors
/// Those of the database.
pub(crate) async fn insert_within(conn: &mut Conn, now: Timestamp, owners: &[Uuid]) -> Result<(), Error> {
    const ON_CONFLICT: &str =
        " on conflict (owner_id) do update set heard_at = excluded.heard_at, due_at = excluded.due_at";
    if owners.is_empty() {
        return Ok(());
    }
    let mut insert = QueryBuilder::new("insert into removed_owners (owner_id, heard_at, due_at)");
    insert.push_values(owners.iter().map(|owner| args![*owner, now, now])).push(ON_CONFLICT);
    execute(conn, insert).await.map(drop)
}

/// Returns at most `limit` owners that are due for a sweep.
///
/// # Errors
/// Those of the database.
pub(crate) async fn due_owners(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Uuid>, Error> {
    const SELECT: &str = "select owner_id from removed_owners where due_at <= $1 order by due_at, owner_id limit $2";
    db.fetch_all(SELECT, args![now, limit]).await
}

/// The statements that delete at most `$2` rows of an owner (`$1`), for one table each. The counter is deleted last,
/// because every write creates it before other rows.
const DELETE_OWNED: [&str; 8] = [
    "delete from task_history where owner_id = $1 and (change, task_id, field) in (
        select change, task_id, field from task_history where owner_id = $1 order by change, task_id, field limit $2)",
    "delete from tasks where owner_id = $1 and id in (select id from tasks where owner_id = $1 order by id limit $2)",
    "delete from task_lists where owner_id = $1 and id in (
        select id from task_lists where owner_id = $1 order by id limit $2)",
    "delete from removed_tasks where owner_id = $1 and id in (
        select id from removed_tasks where owner_id = $1 order by id limit $2)",
    "delete from requests where owner_id = $1 and id in (
        select id from requests where owner_id = $1 order by id limit $2)",
    "delete from webhook_attempts where owner_id = $1 and (webhook_id, number) in (
        select webhook_id, number from webhook_attempts where owner_id = $1 order by webhook_id, number limit $2)",
    "delete from webhooks where owner_id = $1 and id in (
        select id from webhooks where owner_id = $1 order by id limit $2)",
    "delete from owners where owner_id = $1 and $2 > 0",
];

/// Deletes at most `limit` rows of an owner from each table. Returns the number of deleted rows, and whether none is left.
/// With several owners in one statement, PostgreSQL would scan a large table to find the few rows that are left.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_owned(db: &Db, owner: Uuid, limit: i64) -> Result<(u64, bool), Error> {
    sweep(db, move |conn| {
        Box::pin(async move {
            lock_owners(conn, std::iter::once(owner)).await?;
            let mut deleted = 0;
            for statement in DELETE_OWNED {
                let rows = conn.execute(statement, args![owner, limit]).await?;
                deleted += rows;
                if rows == limit.unsigned_abs() {
                    return Ok((deleted, false));
                }
            }
            Ok((deleted, true))
        })
    })
    .await
}

/// Stores that all rows of the owners that were due at `now` have been deleted. After the first sweep, an owner is due
/// again after [`SECOND_SWEEP_DELAY`]. After the second sweep, it is deleted from the table. An owner that was received
/// again in the meantime stays due.
///
/// # Errors
/// Those of the database.
pub(crate) async fn finish_owners(db: &Db, now: Timestamp, owners: Vec<Uuid>) -> Result<(), Error> {
    sweep(db, move |conn| {
        Box::pin(async move {
            let mut forget = QueryBuilder::new("delete from removed_owners where owner_id in ");
            forget.push_ids(owners.iter().copied()).push(" and due_at > heard_at and due_at <= ").push_bind(now);
            execute(conn, forget).await?;
            let wait = SECOND_SWEEP_DELAY.as_micros();
            let mut postpone =
                QueryBuilder::new(format!("update removed_owners set due_at = heard_at + {wait} where owner_id in "));
            postpone.push_ids(owners).push(" and due_at = heard_at and due_at <= ").push_bind(now);
            execute(conn, postpone).await.map(drop)
        })
    })
    .await
}
