//! The database: one SQL statement per function, the owner in every `where`, so that another's task is missing by
//! construction. What concerns many tasks, of whichever owner, is in `sweep`.
//!
//! A write that finds no task asks a second time why; only then is it known whether the etag or the task was wrong. A
//! task whose purge time has come is missing, purged or not.

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_read, db_write,
    status::Refusal,
};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    error::{etag_mismatch, task_not_found},
    model::{ListQuery, NewTask, Revision, Target, TaskRow, TaskUpdate},
};

pub(crate) mod sweep;

/// Puts the columns of a [`TaskRow`] where a statement lists them.
macro_rules! with_columns {
    ($before:literal $(, $after:literal)?) => {
        concat!(
            $before,
            " owner_id, id, title, notes, priority, due_date, due_time, create_time, update_time, complete_time, \
             delete_time, purge_time, revision "
            $(, $after)?
        )
    };
}

/// Makes a task.
///
/// # Errors
/// Those of the database.
pub(crate) async fn create(db: &Db, owner: Uuid, now: Timestamp, id: Uuid, task: NewTask) -> Result<TaskRow, Refusal> {
    const INSERT: &str = with_columns!(
        "insert into tasks (owner_id, id, title, notes, priority, due_date, due_time, create_time, update_time, revision)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
         returning"
    );
    let row = db_write!(db, |connection| {
        query_as(INSERT)
            .bind(owner)
            .bind(id)
            .bind(task.title)
            .bind(task.notes)
            .bind(i64::from(i32::from(task.priority)))
            .bind(task.due_date.map(|date| date.to_string()))
            .bind(task.due_time)
            .bind(now)
            .bind(Revision::FIRST)
            .fetch_one(connection)
            .await
    })?;
    Ok(row)
}

/// Finds a task, live or deleted.
///
/// # Errors
/// TASK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<TaskRow, Refusal> {
    find(db, owner, now, id).await?.ok_or_else(task_not_found)
}

async fn find(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<Option<TaskRow>, db::Error> {
    const SELECT: &str = with_columns!(
        "select",
        "from tasks where owner_id = $1 and id = $2 and (purge_time is null or purge_time > $3)"
    );
    db_read!(db, |connection| query_as(SELECT).bind(owner).bind(id).bind(now).fetch_optional(connection).await)
}

/// Finds the tasks of a page that begins after the task `after`, the newest first, and one more if there is a next
/// page.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    page: &ListQuery,
    after: Option<Uuid>,
) -> Result<Vec<TaskRow>, Refusal> {
    const SELECT: &str = with_columns!(
        "select",
        "from tasks where owner_id = $1 and id < $2 and (delete_time is null or ($3 and purge_time > $4))
         order by id desc limit $5"
    );
    let limit = i64::try_from(page.page_size).unwrap_or(i64::MAX).saturating_add(1);
    let rows = db_read!(db, |connection| {
        query_as(SELECT)
            .bind(owner)
            .bind(after.unwrap_or(Uuid::max()))
            .bind(page.show_deleted)
            .bind(now)
            .bind(limit)
            .fetch_all(connection)
            .await
    })?;
    Ok(rows)
}

/// Writes the fields of a live task that the update names. One that names none leaves even the revision as it is.
///
/// # Errors
/// TASK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn update(db: &Db, owner: Uuid, now: Timestamp, update: TaskUpdate) -> Result<TaskRow, Refusal> {
    const UPDATE: &str = with_columns!(
        "update tasks
         set title = coalesce($6, title),
             notes = coalesce($7, notes),
             priority = coalesce($8, priority),
             due_date = case when $9 then $10 else due_date end,
             due_time = case when $11 then $12 else due_time end,
             update_time = case when $5 then $4 else update_time end,
             revision = revision + case when $5 then 1 else 0 end
         where owner_id = $1 and id = $2 and ($3 is null or revision = $3) and delete_time is null
         returning"
    );
    let target = update.target;
    let row = db_write!(db, |connection| {
        query_as(UPDATE)
            .bind(owner)
            .bind(target.id)
            .bind(target.revision)
            .bind(now)
            .bind(update.is_change())
            .bind(update.title)
            .bind(update.notes)
            .bind(update.priority.map(|priority| i64::from(i32::from(priority))))
            .bind(update.due_date.is_made())
            .bind(update.due_date.value().map(|date| date.to_string()))
            .bind(update.due_time.is_made())
            .bind(update.due_time.value())
            .fetch_optional(connection)
            .await
    })?;
    written(db, owner, now, target, Reach::Live, row).await
}

/// Deletes a live task, which can be undeleted until `purge_time`. With `even_deleted`, a deleted task is found too,
/// and left as it is.
///
/// # Errors
/// TASK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn delete(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    target: Target,
    purge_time: Timestamp,
    even_deleted: bool,
) -> Result<TaskRow, Refusal> {
    const DELETE: &str = with_columns!(
        "update tasks
         set delete_time = coalesce(delete_time, $4),
             purge_time = coalesce(purge_time, $5),
             update_time = case when delete_time is null then $4 else update_time end,
             revision = revision + case when delete_time is null then 1 else 0 end
         where owner_id = $1 and id = $2
           and case when delete_time is null then $3 is null or revision = $3 else $6 and purge_time > $4 end
         returning"
    );
    let row = db_write!(db, |connection| {
        query_as(DELETE)
            .bind(owner)
            .bind(target.id)
            .bind(target.revision)
            .bind(now)
            .bind(purge_time)
            .bind(even_deleted)
            .fetch_optional(connection)
            .await
    })?;
    written(db, owner, now, target, Reach::Live, row).await
}

/// Brings a deleted task back. A live one is left as it is.
///
/// # Errors
/// TASK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn undelete(db: &Db, owner: Uuid, now: Timestamp, target: Target) -> Result<TaskRow, Refusal> {
    const UNDELETE: &str = with_columns!(
        "update tasks
         set delete_time = null,
             purge_time = null,
             update_time = case when delete_time is null then update_time else $4 end,
             revision = revision + case when delete_time is null then 0 else 1 end
         where owner_id = $1 and id = $2 and ($3 is null or revision = $3) and (purge_time is null or purge_time > $4)
         returning"
    );
    change_state(db, owner, now, target, Reach::Deleted, UNDELETE).await
}

/// Marks a live task as done. One that is done is left as it is.
///
/// # Errors
/// TASK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn complete(db: &Db, owner: Uuid, now: Timestamp, target: Target) -> Result<TaskRow, Refusal> {
    const COMPLETE: &str = with_columns!(
        "update tasks
         set complete_time = coalesce(complete_time, $4),
             update_time = case when complete_time is null then $4 else update_time end,
             revision = revision + case when complete_time is null then 1 else 0 end
         where owner_id = $1 and id = $2 and ($3 is null or revision = $3) and delete_time is null
         returning"
    );
    change_state(db, owner, now, target, Reach::Live, COMPLETE).await
}

/// Marks a live task as still to be done. An open one is left as it is.
///
/// # Errors
/// TASK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn reopen(db: &Db, owner: Uuid, now: Timestamp, target: Target) -> Result<TaskRow, Refusal> {
    const REOPEN: &str = with_columns!(
        "update tasks
         set complete_time = null,
             update_time = case when complete_time is null then update_time else $4 end,
             revision = revision + case when complete_time is null then 0 else 1 end
         where owner_id = $1 and id = $2 and ($3 is null or revision = $3) and delete_time is null
         returning"
    );
    change_state(db, owner, now, target, Reach::Live, REOPEN).await
}

/// Which tasks a write can find.
#[derive(Clone, Copy)]
enum Reach {
    /// Live ones alone.
    Live,
    /// Deleted ones too.
    Deleted,
}

/// Runs a statement that needs to know no more than owner, id, revision and time.
async fn change_state(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    target: Target,
    reach: Reach,
    statement: &'static str,
) -> Result<TaskRow, Refusal> {
    let row = db_write!(db, |connection| {
        query_as(statement).bind(owner).bind(target.id).bind(target.revision).bind(now).fetch_optional(connection).await
    })?;
    written(db, owner, now, target, reach, row).await
}

/// The task as it was written or, if none was found, why.
async fn written(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    target: Target,
    reach: Reach,
    row: Option<TaskRow>,
) -> Result<TaskRow, Refusal> {
    if let Some(row) = row {
        return Ok(row);
    }
    if target.revision.is_none() {
        return Err(task_not_found());
    }
    let found = get(db, owner, now, target.id).await?;
    let in_reach = matches!(reach, Reach::Deleted) || found.delete_time.is_none();
    Err(if in_reach { etag_mismatch() } else { task_not_found() })
}

/// The key of the page tokens, which all replicas share. At the very first start it becomes `fresh`.
///
/// # Errors
/// Those of the database, or if what it holds is no such key.
pub(crate) async fn page_token_key(db: &Db, fresh: &[u8; 32]) -> anyhow::Result<[u8; 32]> {
    const INSERT: &str = "insert into page_token_key (id, secret) values (1, $1) on conflict (id) do nothing";
    const SELECT: &str = "select secret from page_token_key where id = 1";
    let fresh = BASE64_URL_SAFE_NO_PAD.encode(fresh);
    db_write!(db, |connection| query(INSERT).bind(fresh).execute(connection).await.map(|_| ()))?;
    let secret: String = db_read!(db, |connection| query_scalar(SELECT).fetch_one(connection).await)?;
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).context("it is not base64url")?;
    secret.try_into().map_err(|_| anyhow::anyhow!("it does not have 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests;
