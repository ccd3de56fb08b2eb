//! The lists of an owner. The default list is created with the first write, or when lists are read.

use service_kit::{
    args,
    clock::Timestamp,
    db::{self, Conn, Db},
    epoch::Epoch,
    status::ApiError,
    update_mask::RepeatedFields,
};
use uuid::Uuid;

use super::{
    epoch,
    history::{EntryContext, enforce_limits, store_for_list},
    owner_queue::OwnerQueue,
    storage_limits::{Excess, MAX_DELETED_TASKS, purge_excess},
    transaction::{
        CounterChange, NotCommitted, Outcome, OwnerCounter, change_counter, check_request, lock_owner, outcome,
        store_response,
    },
};
use crate::{
    error::{default_list_not_deletable, etag_mismatch, list_not_found, quota_exceeded, task_id_taken},
    model::{
        Revision, Target,
        field::Title,
        history::FieldChange,
        later,
        list::ListRow,
        mutation::Actor,
        rank::{self, SequenceNumber},
    },
    request::options::WriteOptions,
    response,
};

const SELECT: &str = "
    select owner_id, id, title, create_time, update_time, revision, change from task_lists
    where owner_id = $1 and id = $2";

/// Returns a list.
///
/// # Errors
/// LIST_NOT_FOUND, and those of the database.
pub(crate) async fn get(
    db: &Db,
    queue: &OwnerQueue,
    owner: Uuid,
    now: Timestamp,
    id: Uuid,
) -> Result<ListRow, ApiError> {
    if let Some(list) = db.fetch_optional(SELECT, args![owner, id]).await? {
        return Ok(list);
    }
    if id != owner {
        return Err(list_not_found());
    }
    create_default(db, queue, owner, now).await?;
    db.fetch_optional(SELECT, args![owner, id]).await?.ok_or_else(list_not_found)
}

/// Creates the default list of an owner who has written nothing yet.
///
/// # Errors
/// Those of the database.
pub(crate) async fn create_default(db: &Db, queue: &OwnerQueue, owner: Uuid, now: Timestamp) -> Result<(), db::Error> {
    queue.write(db, owner, move |conn| Box::pin(async move { lock_owner(conn, owner, 0, now).await.map(drop) })).await
}

/// Returns at most `limit` lists, newest first, starting after the list `after` if it is set.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    queue: &OwnerQueue,
    owner: Uuid,
    now: Timestamp,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<ListRow>, db::Error> {
    const LIST: &str = "
        select owner_id, id, title, create_time, update_time, revision, change from task_lists
        where owner_id = $1 and ($2 is null or id < $2) order by id desc limit $3";
    let values = args![owner, after, i64::try_from(limit).unwrap_or(i64::MAX)];
    let lists: Vec<ListRow> = db.fetch_all(LIST, values.clone()).await?;
    if !lists.is_empty() || after.is_some() {
        return Ok(lists);
    }
    create_default(db, queue, owner, now).await?;
    db.fetch_all(LIST, values).await
}

/// The owner, the time and the options of a write to a list.
pub(crate) struct ListWrite {
    pub(crate) owner: Uuid,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
    pub(crate) options: WriteOptions,
    /// The epoch of the etag in the response.
    pub(crate) epoch: Epoch,
    /// Encodes the response, so that it can be replayed.
    pub(crate) encode: fn(&ListRow, Epoch) -> Vec<u8>,
}

/// Creates a list.
///
/// # Errors
/// TASK_ID_TAKEN if the list exists, QUOTA_EXCEEDED, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn create(
    db: &Db,
    queue: &OwnerQueue,
    write: ListWrite,
    id: Uuid,
    title: Title,
    max_lists: i64,
) -> Result<Outcome<ListRow>, ApiError> {
    const INSERT: &str = "
        insert into task_lists (owner_id, id, title, create_time, update_time, revision, change)
        values ($1, $2, $3, $4, $4, $5, $6) on conflict (owner_id, id) do nothing";
    let (owner, now) = (write.owner, write.now);
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            let change = begin(conn, &write).await?.sequence;
            let (title, revision) = (title.into_text(), Revision::FIRST);
            let row = ListRow { owner_id: owner, id, title, create_time: now, update_time: now, revision, change };
            if conn.execute(INSERT, args![owner, row.id, &row.title, now, row.revision, change]).await? == 0 {
                return Err(task_id_taken().into());
            }
            if add_lists(conn, owner, 1).await? > max_lists {
                return Err(quota_exceeded("the account has reached its limit of lists").into());
            }
            finish(conn, write, row).await
        })
    });
    outcome(written.await)
}

/// Changes the title of a list. Without a title nothing changes.
///
/// # Errors
/// LIST_NOT_FOUND, ETAG_MISMATCH, VALIDATION_FAILED if a repeated field differs, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn update(
    db: &Db,
    queue: &OwnerQueue,
    write: ListWrite,
    target: Target,
    title: Option<Title>,
    repeated: RepeatedFields,
) -> Result<Outcome<ListRow>, ApiError> {
    const UPDATE: &str = "
        update task_lists set title = $3, update_time = $4, revision = revision + 1, change = $5
        where owner_id = $1 and id = $2";
    let (owner, now) = (write.owner, write.now);
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            let change = begin(conn, &write).await?.sequence;
            let mut row = find(conn, owner, target.id).await?;
            check_etag(conn, target, &row).await?;
            repeated.check(&response::task_list(row.clone(), write.epoch))?;
            let Some(title) = title else {
                // Unless the response must be stored, there is nothing to commit.
                let stores_response = write.options.request.is_some();
                return if stores_response {
                    finish(conn, write, row).await
                } else {
                    Err(NotCommitted::NothingToCommit(row))
                };
            };
            row.title = title.into_text();
            (row.update_time, row.revision) = (later(now, row.update_time), row.revision.next());
            conn.execute(UPDATE, args![owner, target.id, &row.title, row.update_time, change]).await?;
            finish(conn, write, row).await
        })
    });
    outcome(written.await)
}

/// Deletes a list, and moves its tasks to another list or, without one, deletes them.
///
/// # Errors
/// LIST_NOT_FOUND, ETAG_MISMATCH, DEFAULT_LIST, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn delete(
    db: &Db,
    queue: &OwnerQueue,
    write: ListWrite,
    target: Target,
    move_tasks_to: Option<Uuid>,
    purge_time: Timestamp,
) -> Result<Outcome<ListRow>, ApiError> {
    let owner = write.owner;
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            let counter = begin(conn, &write).await?;
            let ListWrite { actor, now, .. } = write;
            let context =
                EntryContext { owner, now, actor, sequence: counter.sequence, position: counter.history_bytes };
            let row = find(conn, owner, target.id).await?;
            if row.is_default() {
                return Err(default_list_not_deletable().into());
            }
            check_etag(conn, target, &row).await?;
            match move_tasks_to {
                Some(to) => move_tasks(conn, context, target.id, to).await?,
                None => delete_tasks(conn, context, target.id, purge_time).await?,
            }
            remove(conn, owner, now, counter, target.id).await?;
            add_lists(conn, owner, -1).await?;
            finish(conn, write, row).await
        })
    });
    outcome(written.await)
}

/// Begins a write, and returns the counter of the owner.
async fn begin(conn: &mut Conn, write: &ListWrite) -> Result<OwnerCounter, NotCommitted<ListRow>> {
    let counter = lock_owner(conn, write.owner, 0, write.now).await?;
    check_request(conn, write.owner, write.now, &write.options).await?;
    Ok(counter)
}

/// Ends a write: stores its response, or rolls back if the write is a dry run.
async fn finish(conn: &mut Conn, write: ListWrite, row: ListRow) -> Result<ListRow, NotCommitted<ListRow>> {
    let ListWrite { owner, now, options, epoch, encode, .. } = write;
    if options.validate_only {
        return Err(NotCommitted::NothingToCommit(row));
    }
    store_response(conn, owner, now, options, || encode(&row, epoch)).await?;
    Ok(row)
}

/// Replaces a list by its tombstone. If there are too many tombstones, the oldest are deleted.
async fn remove(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    counter: OwnerCounter,
    id: Uuid,
) -> Result<(), db::Error> {
    const DELETE: &str = "delete from task_lists where owner_id = $1 and id = $2";
    const TOMBSTONE: &str = "
        insert into removed_tasks (owner_id, id, change, remove_time, is_list) values ($1, $2, $3, $4, true)";
    const COUNT: &str = "update owners set tombstones = tombstones + 1 where owner_id = $1";
    conn.execute(DELETE, args![owner, id]).await?;
    conn.execute(TOMBSTONE, args![owner, id, counter.sequence, now]).await?;
    conn.execute(COUNT, args![owner]).await?;
    let excess = Excess { tasks: 0, tombstones: counter.tombstones + 1 - MAX_DELETED_TASKS };
    purge_excess(conn, owner, now, counter.sequence, excess).await
}

/// Moves the tasks of a list after those of another, in the same order: the new rank of a task is a rank after all
/// others, followed by the number of the task in the old order, and a 5, because a rank must not end with a zero.
async fn move_tasks(conn: &mut Conn, context: EntryContext, from: Uuid, to: Uuid) -> Result<(), NotCommitted<ListRow>> {
    const UPDATE: &str = "
        update tasks set list_id = $3, rank = $4 || substr(cast(10000000000 + sorted.number as text), 2) || '5',
            change = $5, revision = revision + 1,
            update_time = case when update_time >= $6 then update_time + 1 else $6 end
        from (
            select id as task_id, row_number() over (order by rank, id) as number
            from tasks where owner_id = $1 and list_id = $2
        ) sorted
        where owner_id = $1 and id = sorted.task_id";
    let EntryContext { owner, now, sequence, .. } = context;
    if conn.fetch_optional::<ListRow>(SELECT, args![owner, to]).await?.is_none() {
        return Err(list_not_found().field("move_tasks_to", "is not a list of the caller").into());
    }
    let history_bytes = store_for_list(conn, context, FieldChange::list(from, to), from, false).await?;
    let last_rank = rank::last(SequenceNumber(sequence), 0);
    conn.execute(UPDATE, args![owner, from, to, last_rank, sequence, now]).await?;
    count(conn, context, CounterChange { active_tasks: 0, task_rows: 0, history_bytes }).await?;
    Ok(())
}

async fn delete_tasks(
    conn: &mut Conn,
    context: EntryContext,
    list: Uuid,
    purge_time: Timestamp,
) -> Result<(), db::Error> {
    const UPDATE: &str = "
        update tasks set delete_time = $3, purge_time = $4, change = $5, revision = revision + 1,
            update_time = case when update_time >= $3 then update_time + 1 else $3 end
        where owner_id = $1 and list_id = $2 and delete_time is null";
    let EntryContext { owner, now, sequence, .. } = context;
    let history_bytes = store_for_list(conn, context, FieldChange::deletion(None, Some(now)), list, true).await?;
    let deleted = conn.execute(UPDATE, args![owner, list, now, purge_time, sequence]).await?;
    count(conn, context, CounterChange { active_tasks: -deleted.cast_signed(), task_rows: 0, history_bytes }).await
}

/// Counts deleted tasks and entries of task histories.
async fn count(conn: &mut Conn, context: EntryContext, change: CounterChange) -> Result<(), db::Error> {
    let EntryContext { owner, now, position, .. } = context;
    change_counter(conn, owner, change).await?;
    enforce_limits(conn, owner, now, position, change.history_bytes).await
}

async fn find(conn: &mut Conn, owner: Uuid, id: Uuid) -> Result<ListRow, NotCommitted<ListRow>> {
    let found: Option<ListRow> = conn.fetch_optional(SELECT, args![owner, id]).await?;
    found.ok_or_else(|| list_not_found().into())
}

async fn check_etag(conn: &mut Conn, mut target: Target, row: &ListRow) -> Result<(), NotCommitted<ListRow>> {
    epoch::check_etags(conn, vec![&mut target]).await?;
    match target.revision {
        Some(revision) if revision != row.revision => Err(etag_mismatch().into()),
        _ => Ok(()),
    }
}

/// Changes the number of lists of an owner, and returns the new number.
async fn add_lists(conn: &mut Conn, owner: Uuid, difference: i64) -> Result<i64, db::Error> {
    const UPDATE: &str = "update owners set live_lists = live_lists + $2 where owner_id = $1 returning live_lists";
    conn.fetch_one(UPDATE, args![owner, difference]).await
}
