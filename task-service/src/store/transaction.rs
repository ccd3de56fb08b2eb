//! The common steps of all writes of an owner: the owner's counter, and the stored responses to requests with an id.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    args,
    clock::Timestamp,
    db::{self, Conn, Db, Engine, FromRow, Row, Value},
    status::ApiError,
};
use uuid::Uuid;

use super::storage_limits::make_room_for_response;
use crate::{
    error::request_id_reused,
    request::options::{RequestId, WriteOptions},
};

/// How long responses to requests with an id are stored, unless newer ones of the owner take their place.
pub(crate) const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The outcome of a write.
pub(crate) enum Outcome<T> {
    /// The write was executed by this call.
    Done(T),
    /// The write was executed by an earlier call, which had this encoded response.
    Replayed(Vec<u8>),
}

/// The reason why a transaction is rolled back.
pub(super) enum NotCommitted<T> {
    /// The write has failed.
    Failed(ApiError),
    /// The write was executed by an earlier call, which had this encoded response.
    Replayed(Vec<u8>),
    /// The write is a dry run (`validate_only`), or changes nothing.
    NothingToCommit(T),
    /// The database failed.
    Database(db::Error),
}

impl<T> From<db::Error> for NotCommitted<T> {
    fn from(error: db::Error) -> Self {
        Self::Database(error)
    }
}

impl<T> From<ApiError> for NotCommitted<T> {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// Returns the outcome of a transaction.
///
/// # Errors
/// The error of the write, and those of the database.
pub(super) fn outcome<T>(result: Result<T, NotCommitted<T>>) -> Result<Outcome<T>, ApiError> {
    match result {
        Ok(value) | Err(NotCommitted::NothingToCommit(value)) => Ok(Outcome::Done(value)),
        Err(NotCommitted::Replayed(response)) => Ok(Outcome::Replayed(response)),
        Err(NotCommitted::Failed(error)) => Err(error),
        Err(NotCommitted::Database(error)) => Err(error.into()),
    }
}

/// The counter of an owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnerCounter {
    /// The sequence number of this write among those of the owner.
    pub(super) sequence: i64,
    /// The number of active tasks of the owner, including those that are about to be created.
    pub(super) active_tasks: i64,
    /// The number of tasks, active and deleted, including those that are about to be created.
    pub(super) task_rows: i64,
    /// The number of tombstones.
    pub(super) tombstones: i64,
    /// The size of all entries of task histories that have been stored before this write.
    pub(super) history_bytes: i64,
}

impl FromRow for OwnerCounter {
    /// Reads `last_change, live_tasks, task_rows, tombstones, history_bytes`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, db::Error> {
        Ok(Self {
            sequence: row.next()?,
            active_tasks: row.next()?,
            task_rows: row.next()?,
            tombstones: row.next()?,
            history_bytes: row.next()?,
        })
    }
}

/// By how much a write changes the counter of its owner, besides the tasks that it creates.
#[derive(Clone, Copy, Debug)]
pub(super) struct CounterChange {
    pub(super) active_tasks: i64,
    pub(super) task_rows: i64,
    pub(super) history_bytes: i64,
}

/// Increments the sequence number of the owner, which blocks other writes of the owner until the commit, and counts the
/// tasks that are about to be created. The first write creates the default list.
///
/// # Errors
/// Those of the database.
pub(super) async fn lock_owner(
    conn: &mut Conn,
    owner: Uuid,
    create_count: i64,
    now: Timestamp,
) -> Result<OwnerCounter, db::Error> {
    const LOCK: &str = "
        insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists, task_rows)
        values ($1, 1, 0, $2, 1, $2)
        on conflict (owner_id) do update set
            last_change = owners.last_change + 1, live_tasks = owners.live_tasks + excluded.live_tasks,
            task_rows = owners.task_rows + excluded.task_rows
        returning last_change, live_tasks, task_rows, tombstones, history_bytes";
    const DEFAULT_LIST: &str = "
        insert into task_lists (owner_id, id, title, create_time, update_time, revision, change)
        values ($1, $1, 'Tasks', $2, $2, 1, 1) on conflict (owner_id, id) do nothing";
    let counter: OwnerCounter = conn.fetch_one(LOCK, args![owner, create_count]).await?;
    if counter.sequence == 1 {
        conn.execute(DEFAULT_LIST, args![owner, now]).await?;
    }
    Ok(counter)
}

/// Begins a mutation, and returns the counter of the owner with the mutation. Only PostgreSQL stores it now, to lock the
/// owner. SQLite has a single writer, so that nothing needs to be rolled back if a check fails.
///
/// # Errors
/// Those of the database.
pub(super) async fn begin_mutation(
    conn: &mut Conn,
    owner: Uuid,
    create_count: i64,
    now: Timestamp,
) -> Result<OwnerCounter, db::Error> {
    const SELECT: &str = "
        select last_change, live_tasks, task_rows, tombstones, history_bytes from owners where owner_id = $1";
    if conn.engine() == Engine::Postgres {
        return lock_owner(conn, owner, create_count, now).await;
    }
    let stored: OwnerCounter = conn.fetch_optional(SELECT, args![owner]).await?.unwrap_or_default();
    Ok(OwnerCounter {
        sequence: stored.sequence + 1,
        active_tasks: stored.active_tasks + create_count,
        task_rows: stored.task_rows + create_count,
        ..stored
    })
}

/// Stores the counter of the owner with the mutation, as far as [`begin_mutation`] has not done so.
///
/// # Errors
/// Those of the database.
pub(super) async fn count_mutation(
    conn: &mut Conn,
    owner: Uuid,
    create_count: i64,
    now: Timestamp,
    counter: OwnerCounter,
    change: CounterChange,
) -> Result<(), db::Error> {
    const UPDATE: &str = "
        update owners set last_change = $2, live_tasks = $3, task_rows = $4, history_bytes = $5 where owner_id = $1";
    let OwnerCounter { sequence, active_tasks, task_rows, history_bytes, .. } = counter;
    match (conn.engine(), sequence) {
        (Engine::Postgres, _) => change_counter(conn, owner, change).await,
        (Engine::Sqlite, 1) => {
            lock_owner(conn, owner, create_count, now).await?;
            change_counter(conn, owner, change).await
        }
        (Engine::Sqlite, _) => {
            let (active_tasks, task_rows) = (active_tasks + change.active_tasks, task_rows + change.task_rows);
            let values = args![owner, sequence, active_tasks, task_rows, history_bytes + change.history_bytes];
            conn.execute_for_counted_rows(UPDATE, values).await.map(drop)
        }
    }
}

/// Changes the counter of an owner.
///
/// # Errors
/// Those of the database.
pub(super) async fn change_counter(conn: &mut Conn, owner: Uuid, change: CounterChange) -> Result<(), db::Error> {
    const UPDATE: &str = "
        update owners set live_tasks = live_tasks + $2, history_bytes = history_bytes + $3, task_rows = task_rows + $4
        where owner_id = $1";
    let CounterChange { active_tasks, task_rows, history_bytes } = change;
    if active_tasks != 0 || history_bytes != 0 || task_rows != 0 {
        conn.execute_for_counted_rows(UPDATE, args![owner, active_tasks, history_bytes, task_rows]).await?;
    }
    Ok(())
}

/// Checks that the request was not executed before, and that its id was not used for a different request.
///
/// # Errors
/// [`NotCommitted::Replayed`], REQUEST_ID_REUSED, and those of the database.
pub(super) async fn check_request<T>(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    options: &WriteOptions,
) -> Result<(), NotCommitted<T>> {
    const SELECT: &str = "select hash, answer from requests where owner_id = $1 and id = $2 and create_time > $3";
    let Some(request) = &options.request else { return Ok(()) };
    let found: Option<StoredResponse> = conn.fetch_optional(SELECT, args![owner, request.id, now - RETENTION]).await?;
    replay(request, found)
}

/// Reports whether the id of a request was used before, so that the request need not be checked again.
///
/// # Errors
/// Those of the database.
pub(crate) async fn is_repeated(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    options: &WriteOptions,
) -> Result<bool, db::Error> {
    const SELECT: &str = "select id from requests where owner_id = $1 and id = $2 and create_time > $3";
    let Some(request) = &options.request else { return Ok(false) };
    let found: Option<Uuid> = db.fetch_optional(SELECT, args![owner, request.id, now - RETENTION]).await?;
    Ok(found.is_some())
}

/// The stored hash of a request, and the encoded response to it.
pub(super) type StoredResponse = (String, String);

/// Checks what is stored for a request id.
///
/// # Errors
/// [`NotCommitted::Replayed`] and REQUEST_ID_REUSED.
pub(super) fn replay<T>(request: &RequestId, found: Option<StoredResponse>) -> Result<(), NotCommitted<T>> {
    match found {
        None => Ok(()),
        Some((hash, _)) if hash != request.hash => Err(request_id_reused().into()),
        Some((_, response)) => {
            let response = BASE64_URL_SAFE_NO_PAD.decode(response).map_err(ApiError::internal)?;
            Err(NotCommitted::Replayed(response))
        }
    }
}

/// Stores the encoded response, if the request has an id.
///
/// # Errors
/// Those of the database.
pub(super) async fn store_response(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    options: WriteOptions,
    response: impl FnOnce() -> Vec<u8>,
) -> Result<(), db::Error> {
    const INSERT: &str = "
        insert into requests (owner_id, id, hash, answer, create_time, position) values ($1, $2, $3, $4, $5, $6)
        on conflict (owner_id, id) do update set hash = excluded.hash, answer = excluded.answer,
            create_time = excluded.create_time, position = excluded.position";
    if let Some(request) = options.request {
        let response = encode_response(&response());
        let position = make_room_for_response(conn, owner, response.len()).await?;
        conn.execute(INSERT, response_values(owner, &request, response, now, position)).await?;
    }
    Ok(())
}

/// Stores responses of several owners. Only for PostgreSQL.
///
/// # Errors
/// Those of the database.
pub(super) async fn store_responses(conn: &mut Conn, responses: Vec<Vec<Value>>) -> Result<(), db::Error> {
    const INSERT: &str = "
        insert into requests (owner_id, id, hash, answer, create_time, position)
        select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
        on conflict (owner_id, id) do update set hash = excluded.hash, answer = excluded.answer,
            create_time = excluded.create_time, position = excluded.position";
    conn.execute(INSERT, Value::arrays(responses)).await.map(drop)
}

/// Encodes a response as it is stored.
pub(super) fn encode_response(response: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(response)
}

/// Returns the columns of a stored response.
pub(super) fn response_values(
    owner: Uuid,
    request: &RequestId,
    response: String,
    now: Timestamp,
    position: i64,
) -> Vec<Value> {
    args![owner, request.id, &request.hash, response, now, position]
}
