//! The lists of an owner. The default list is made with the first act, or when it is asked for.

use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_attempt, db_look_up, db_read, db_transaction,
    status::Refusal,
};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::acts::{Answer, Undone, answer, end_if_replayed, lock_owner, remember};
use crate::{
    error::{default_list, etag_mismatch, list_not_found, quota_exceeded},
    model::{
        Revision, Target,
        list::{ListRow, ListWrite},
        rank::{self, Place},
        request::Mode,
    },
};

/// Puts the columns of a [`ListRow`] where a statement lists them.
macro_rules! with_columns {
    ($before:literal $(, $after:literal)?) => {
        concat!($before, " owner_id, id, title, create_time, update_time, revision " $(, $after)?)
    };
}

const SELECT: &str = with_columns!("select", "from task_lists where owner_id = $1 and id = $2");

/// Finds a list.
///
/// # Errors
/// LIST_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<ListRow, Refusal> {
    if let Some(list) = find(db, owner, id).await? {
        return Ok(list);
    }
    if id != owner {
        return Err(list_not_found());
    }
    begin(db, owner, now).await?;
    find(db, owner, id).await?.ok_or_else(list_not_found)
}

async fn find(db: &Db, owner: Uuid, id: Uuid) -> Result<Option<ListRow>, db::Error> {
    db_look_up!(db, |connection| query_as(SELECT).bind(owner).bind(id).fetch_optional(connection).await)
}

/// Makes the default list of an owner who has done nothing yet.
async fn begin(db: &Db, owner: Uuid, now: Timestamp) -> Result<(), db::Error> {
    db_transaction!(db, |connection| {
        lock_owner!(connection, owner, 0_i64, now);
        Ok(())
    })
}

/// The lists after one, the newest first, not more than `limit`.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<ListRow>, db::Error> {
    const SQL: &str = with_columns!(
        "select",
        "from task_lists where owner_id = $1 and ($2 is null or id < $2) order by id desc limit $3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = async || {
        db_read!(db, |connection| query_as(SQL).bind(owner).bind(after).bind(limit).fetch_all(connection).await)
    };
    let lists = read().await?;
    if !lists.is_empty() || after.is_some() {
        return Ok(lists);
    }
    begin(db, owner, now).await?;
    read().await
}

/// Something that an owner does to a list.
pub(crate) struct ListAct {
    pub(crate) owner: Uuid,
    pub(crate) now: Timestamp,
    pub(crate) purge_time: Timestamp,
    pub(crate) max_lists: i64,
    pub(crate) mode: Mode,
    pub(crate) write: ListWrite,
    /// The id of a list that is made.
    pub(crate) new_id: Uuid,
    /// Encodes the answer, so that it can be given again.
    pub(crate) encode: fn(&ListRow) -> Vec<u8>,
}

const INSERT: &str = "
    insert into task_lists (owner_id, id, title, create_time, update_time, revision) values ($1, $2, $3, $4, $4, $5)";
const RENAME: &str = "
    update task_lists set title = $3, update_time = $4, revision = revision + 1 where owner_id = $1 and id = $2";
const COUNT: &str = "update owners set live_lists = live_lists + $2 where owner_id = $1 returning live_lists";
/// The tasks come behind those that are there, in the order that they have: each gets its number in it behind a new rank.
/// It ends in a digit other than zero, as every rank does.
const MOVE_TASKS: &str = "
    update tasks set list_id = $3, rank = $4 || substr(cast(10000000000 + sorted.number as text), 2) || '5',
        change = $5, update_time = $6, revision = revision + 1
    from (
        select id as task_id, row_number() over (order by rank, id) as number
        from tasks where owner_id = $1 and list_id = $2
    ) sorted
    where owner_id = $1 and id = sorted.task_id";
const DELETE_TASKS: &str = "
    update tasks set delete_time = $3, purge_time = $4, change = $5, update_time = $3, revision = revision + 1
    where owner_id = $1 and list_id = $2 and delete_time is null";
const DELETE: &str = "delete from task_lists where owner_id = $1 and id = $2";

/// Does it: all of it or nothing.
///
/// # Errors
/// LIST_NOT_FOUND, ETAG_MISMATCH, DEFAULT_LIST, QUOTA_EXCEEDED, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn perform(db: &Db, act: ListAct) -> Result<Answer<ListRow>, Refusal> {
    let done: Result<ListRow, Undone<ListRow>> = db_attempt!(db, |connection| {
        let ListAct { owner, now, purge_time, max_lists, mode, write, new_id, encode } = act;
        let (place, _) = lock_owner!(connection, owner, 0_i64, now);
        end_if_replayed!(connection, owner, now, mode);
        let named = match &write {
            ListWrite::Create(_) => None,
            ListWrite::Update(target, _) | ListWrite::Delete { target, .. } => Some(*target),
        };
        let found: Option<ListRow> = match named {
            None => None,
            Some(target) => query_as(SELECT).bind(owner).bind(target.id).fetch_optional(&mut *connection).await?,
        };
        if let Some(refusal) = named.and_then(|target| refused(target, found.as_ref(), &write)) {
            return Ok(Err(Undone::Refused(refusal)));
        }
        let mut row = found.unwrap_or_else(|| ListRow {
            owner_id: owner,
            id: new_id,
            title: String::new(),
            create_time: now,
            update_time: now,
            revision: Revision::FIRST,
        });
        let (changes, deletes) =
            (!matches!(write, ListWrite::Update(_, None)), matches!(write, ListWrite::Delete { .. }));
        match write {
            ListWrite::Create(title) => {
                row.title = title.into_text();
                let insert = query(INSERT).bind(owner).bind(row.id).bind(row.title.clone()).bind(now);
                insert.bind(row.revision).execute(&mut *connection).await?;
                let lists: i64 = query_scalar(COUNT).bind(owner).bind(1_i64).fetch_one(&mut *connection).await?;
                if lists > max_lists {
                    return Ok(Err(Undone::Refused(quota_exceeded("there are as many lists as one may have"))));
                }
            }
            ListWrite::Update(_, None) => {}
            ListWrite::Update(target, Some(title)) => {
                (row.title, row.update_time, row.revision) = (title.into_text(), now, row.revision.next());
                let rename = query(RENAME).bind(owner).bind(target.id).bind(row.title.clone()).bind(now);
                rename.execute(&mut *connection).await?;
            }
            ListWrite::Delete { target, move_tasks_to: Some(to) } => {
                let there: Option<ListRow> =
                    query_as(SELECT).bind(owner).bind(to).fetch_optional(&mut *connection).await?;
                if there.is_none() {
                    let refusal = list_not_found().field("move_tasks_to", "is no list of the caller");
                    return Ok(Err(Undone::Refused(refusal)));
                }
                let behind = rank::last(Place(place), 0);
                let tasks = query(MOVE_TASKS).bind(owner).bind(target.id).bind(to).bind(behind).bind(place).bind(now);
                tasks.execute(&mut *connection).await?;
            }
            ListWrite::Delete { target, move_tasks_to: None } => {
                let tasks = query(DELETE_TASKS).bind(owner).bind(target.id).bind(now).bind(purge_time).bind(place);
                let deleted = tasks.execute(&mut *connection).await?.rows_affected().cast_signed();
                query(super::acts::LIVE).bind(owner).bind(-deleted).execute(&mut *connection).await?;
            }
        }
        if let Some(target) = named.filter(|_| deletes) {
            query(DELETE).bind(owner).bind(target.id).execute(&mut *connection).await?;
            query(COUNT).bind(owner).bind(-1_i64).execute(&mut *connection).await?;
        }
        if mode.validate_only || (!changes && mode.request.is_none()) {
            return Ok(Err(Undone::Tried(row)));
        }
        remember!(connection, owner, now, mode, encode(&row));
        Ok(Ok(row))
    })?;
    answer(done)
}

/// Why a list that is named cannot be changed so, if it cannot.
fn refused(target: Target, found: Option<&ListRow>, write: &ListWrite) -> Option<Refusal> {
    let Some(list) = found else { return Some(list_not_found()) };
    if matches!(write, ListWrite::Delete { .. }) && list.is_default() {
        return Some(default_list());
    }
    target.revision.filter(|revision| *revision != list.revision).map(|_| etag_mismatch())
}
