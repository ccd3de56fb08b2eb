//! Pages of the history of a task.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, ReadKind, Row, Value},
    page,
    status::ApiError,
};
use uuid::Uuid;

use super::RETENTION;
use crate::{
    error::task_not_found,
    model::history::{HistoryEntry, HistoryPosition},
};

impl FromRow for HistoryEntry {
    /// Reads `change, field, change_time, actor_id, session_id, old_value, new_value`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            position: HistoryPosition { change: row.next()?, field: row.next()? },
            change_time: row.next()?,
            actor_id: row.next()?,
            session_id: row.next()?,
            old_value: row.next()?,
            new_value: row.next()?,
        })
    }
}

/// Returns at most `limit` entries of a task, newest first, starting after the entry `after` if it is set.
///
/// # Errors
/// TASK_NOT_FOUND, and those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    task: Uuid,
    after: Option<HistoryPosition>,
    limit: usize,
) -> Result<Vec<HistoryEntry>, ApiError> {
    let after = after.unwrap_or(HistoryPosition { change: i64::MAX, field: String::new() });
    let limit_value = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = [args![owner, task, now], args![owner, task, now - RETENTION, after.change, after.field, limit_value]];
    let found = if limit <= page::DEFAULT_SIZE + 1 {
        db.read_short(move |conn| Box::pin(find(conn, values))).await?
    } else {
        db.read(ReadKind::Scan, move |conn| Box::pin(find(conn, values))).await?
    };
    found.ok_or_else(task_not_found)
}

/// Returns the entries, or `None` if the task does not exist. Takes the arguments of both statements.
async fn find(conn: &mut Conn, [task, entries]: [Vec<Value>; 2]) -> Result<Option<Vec<HistoryEntry>>, Error> {
    const TASK: &str = "
        select id from tasks where owner_id = $1 and id = $2 and (purge_time is null or purge_time > $3)";
    const ENTRIES: &str = "
        select change, field, change_time, actor_id, session_id, old_value, new_value from task_history
        where owner_id = $1 and task_id = $2 and change_time > $3 and (change, field) < ($4, $5)
        order by change desc, field desc limit $6";
    match conn.fetch_optional::<Uuid>(TASK, task).await? {
        Some(_) => conn.fetch_all(ENTRIES, entries).await.map(Some),
        None => Ok(None),
    }
}
