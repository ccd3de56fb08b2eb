//! The queue of reminders: owners with the time at which their first reminder fires. The lock of an owner's row decides which
//! replica fires its reminders, and a firing is a mutation of the owner, so each reminder fires exactly once.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, QueryBuilder, Row},
};
use uuid::Uuid;

use crate::model::{
    TaskRow,
    mutation::{Relative, WorkingSet},
    reminder::{Due, Firing, fire},
};

/// Maximum number of owners whose reminders a transaction fires.
const MAX_OWNERS: i64 = 16;

/// Maximum number of tasks of an owner whose reminders a transaction fires. The owner then waits for the others.
const MAX_TASKS: i64 = 50;

/// Maximum number of due owners that are counted.
const MAX_COUNTED: i64 = 1000;

/// Reports whether a mutation may have made the first reminder of the owner earlier.
pub(crate) fn concerns(working_set: &WorkingSet) -> bool {
    let changes_time = working_set.changed_tasks().any(|task| {
        let before = task.before.and_then(TaskRow::pending_reminder);
        task.after.pending_reminder() != before
    });
    // The reminders of subtasks are not read.
    let is_undeleted = |relative: &Relative| relative.before.delete_time.is_some() && relative.node.is_open();
    changes_time || working_set.tree.changed_relatives().any(is_undeleted)
}

/// Stores when the first reminders of owners fire.
///
/// # Errors
/// Those of the database.
pub(super) async fn schedule(conn: &mut Conn, owners: Vec<Uuid>) -> Result<(), Error> {
    let is_single = owners.len() == 1;
    let mut update = QueryBuilder::new(
        "update owners set reminder_due = (
            select min(next_reminder) from tasks where tasks.owner_id = owners.owner_id
            and next_reminder is not null and complete_time is null and delete_time is null
        ) where owner_id in ",
    );
    update.push_ids(owners);
    let (sql, values) = update.build_with_cache(is_single);
    conn.execute_for_counted_rows(sql, values).await.map(drop)
}

/// Returns when the first reminder of all owners fires.
///
/// # Errors
/// Those of the database.
pub(crate) async fn next_due(db: &Db) -> Result<Option<Timestamp>, Error> {
    const SELECT: &str = "
        select reminder_due from owners where reminder_due is not null order by reminder_due limit 1";
    db.fetch_optional(SELECT, args![]).await
}

/// Returns how many owners have due reminders, up to a maximum.
///
/// # Errors
/// Those of the database.
pub(crate) async fn count_due(db: &Db, now: Timestamp) -> Result<usize, Error> {
    const COUNT: &str = "
        select count(*) from (select owner_id from owners where reminder_due <= $1 limit $2) due";
    let count: Option<i64> = db.fetch_optional(COUNT, args![now, MAX_COUNTED]).await?;
    Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default())
}

/// What a transaction has fired.
#[derive(Debug, Default)]
pub(crate) struct FiredBatch {
    /// The owners that were due, even if nothing has fired.
    pub(crate) due: usize,
    /// The owners whose tasks have changed.
    pub(crate) changed: Vec<Uuid>,
    /// The number of reminders that have fired in time, and of those that were late.
    pub(crate) on_time: u64,
    pub(crate) late: u64,
}

/// Fires reminders of the owners that are due first, of each those of a few tasks. On PostgreSQL, skips owners that are
/// locked by a mutation or by another replica.
///
/// # Errors
/// Those of the database.
pub(crate) async fn fire_batch(db: &Db, now: Timestamp) -> Result<FiredBatch, Error> {
    db.write(move |conn| Box::pin(fire_batch_within(conn, now))).await
}

async fn fire_batch_within(conn: &mut Conn, now: Timestamp) -> Result<FiredBatch, Error> {
    const DUE: &str = "
        select owner_id, last_change from owners where reminder_due <= $1 order by reminder_due, owner_id limit $2";
    const DUE_LOCKED: &str = "
        select owner_id, last_change from owners where reminder_due <= $1 order by reminder_due, owner_id limit $2
        for no key update skip locked";
    const COUNT_MUTATION: &str = "update owners set last_change = $2 where owner_id = $1";
    let due = if conn.engine() == Engine::Sqlite { DUE } else { DUE_LOCKED };
    let owners: Vec<(Uuid, i64)> = conn.fetch_all(due, args![now, MAX_OWNERS]).await?;
    let mut batch = FiredBatch { due: owners.len(), ..FiredBatch::default() };
    for (owner, last_change) in owners {
        let fired = batch.on_time + batch.late;
        fire_owner(conn, owner, now, last_change + 1, &mut batch).await?;
        if batch.on_time + batch.late > fired {
            conn.execute(COUNT_MUTATION, args![owner, last_change + 1]).await?;
            batch.changed.push(owner);
        }
        schedule_after(conn, owner, now).await?;
    }
    Ok(batch)
}

/// A task whose reminder is due.
struct DueTask {
    id: Uuid,
    reminders: String,
    due: Due,
}

impl FromRow for DueTask {
    /// Reads `id, reminders, due_date, due_time, time_zone`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (id, reminders) = (row.next()?, row.next()?);
        let (date, time): (Option<String>, _) = (row.next()?, row.next()?);
        let time_zone: String = row.next()?;
        Ok(Self { id, reminders, due: Due::new(date.as_deref(), time, &time_zone) })
    }
}

/// Fires the reminders of some tasks, as the mutation `sequence` of their owner.
async fn fire_owner(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    sequence: i64,
    batch: &mut FiredBatch,
) -> Result<(), Error> {
    const TASKS: &str = "
        select id, reminders, due_date, due_time, time_zone from tasks
        where owner_id = $1 and next_reminder <= $2 and next_reminder is not null
            and complete_time is null and delete_time is null
        order by next_reminder, id limit $3";
    // As in `later`, update times never decrease.
    const FIRE: &str = "
        update tasks set reminders = $3, next_reminder = $4, change = $5, revision = revision + 1,
            update_time = case when update_time >= $6 then update_time + 1 else $6 end
        where owner_id = $1 and id = $2";
    // An older program has moved the due date.
    const RESCHEDULE: &str = "update tasks set next_reminder = $3 where owner_id = $1 and id = $2";
    let tasks: Vec<DueTask> = conn.fetch_all(TASKS, args![owner, now, MAX_TASKS]).await?;
    for DueTask { id, reminders, due } in tasks {
        let Firing { reminders, next, on_time, late } = fire(&reminders, &due, now);
        if on_time + late > 0 {
            conn.execute(FIRE, args![owner, id, reminders, next, sequence, now]).await?;
        } else {
            conn.execute(RESCHEDULE, args![owner, id, next]).await?;
        }
        batch.on_time += on_time;
        batch.late += late;
    }
    Ok(())
}

/// Stores when the next reminder of an owner fires. If it is due already, the owner is due again after all that are now.
async fn schedule_after(conn: &mut Conn, owner: Uuid, now: Timestamp) -> Result<(), Error> {
    const POSTPONE: &str = "update owners set reminder_due = $2 where owner_id = $1 and reminder_due < $2";
    schedule(conn, vec![owner]).await?;
    conn.execute_for_counted_rows(POSTPONE, args![owner, now]).await.map(drop)
}
