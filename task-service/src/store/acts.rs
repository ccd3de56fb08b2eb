//! Whatever an owner does to tasks, in one transaction: the counter of the owner, which keeps everybody else from the
//! owner's tasks, what the writes touch, what becomes of it, and the answer to a request that may come again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_attempt, db_write,
    status::Refusal,
};
use sqlx::{QueryBuilder, query};
use uuid::Uuid;

use super::{
    needs::{Needs, push_ids, read_lists, read_ranks, read_tasks},
    with_columns,
};
use crate::model::{
    TaskRow,
    act::{Known, Moment},
    batch,
    filter::searched,
    rank::Place,
    request::Mode,
    write::Write,
};

/// For so long a request may come again.
pub(crate) const REPLAYED_FOR: Duration = Duration::from_secs(24 * 3600);

/// A statement takes no more rows: engines limit the number of values.
const ROWS: usize = 500;

/// Where acts are announced to the other replicas.
pub(crate) const CHANNEL: &str = "taskey_tasks";

/// Tells the other replicas that somebody has done something. On `SQLite` there is none.
///
/// # Errors
/// Those of the database.
pub(crate) async fn announce(db: &Db) -> Result<(), db::Error> {
    const ANNOUNCE: &str = "select pg_notify($1, '')";
    match db {
        Db::Sqlite(_) => Ok(()),
        Db::Postgres(_) => {
            db_write!(db, |connection| query(ANNOUNCE).bind(CHANNEL).execute(connection).await.map(|_| ()))
        }
    }
}

/// The task of each write, as it was after it; none where there was none, and that is all right.
pub(crate) type Rows = Vec<Option<TaskRow>>;

type Encode = Box<dyn Fn(&[Option<TaskRow>]) -> Vec<u8> + Send>;

/// Something that an owner does.
pub(crate) struct Act {
    pub(crate) owner: Uuid,
    pub(crate) now: Timestamp,
    pub(crate) purge_time: Timestamp,
    pub(crate) max_tasks: i64,
    pub(crate) mode: Mode,
    pub(crate) writes: Vec<Write>,
    /// The prefix of the paths of each write; none for a write of its own.
    pub(crate) prefixes: Vec<String>,
    /// The ids of tasks that are made, one for each write.
    pub(crate) new_ids: Vec<Uuid>,
    /// Encodes the answer, so that it can be given again.
    pub(crate) encode: Encode,
}

/// The answer to an act.
pub(crate) enum Answer<T> {
    /// It has been done now.
    Done(T),
    /// It was done before: the encoded answer of that time.
    Replayed(Vec<u8>),
}

/// Why nothing is written.
pub(super) enum Undone<T> {
    Refused(Refusal),
    Replayed(String),
    /// It was only tried out, or there was nothing to change.
    Tried(T),
}

/// What an attempt has come to.
///
/// # Errors
/// What it was refused for.
pub(super) fn answer<T>(attempt: Result<T, Undone<T>>) -> Result<Answer<T>, Refusal> {
    match attempt {
        Ok(value) | Err(Undone::Tried(value)) => Ok(Answer::Done(value)),
        Err(Undone::Refused(refusal)) => Err(refusal),
        Err(Undone::Replayed(answer)) => {
            BASE64_URL_SAFE_NO_PAD.decode(answer).map(Answer::Replayed).map_err(Refusal::internal)
        }
    }
}

pub(super) const LOCK: &str = "
    insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists) values ($1, 1, 0, $2, 1)
    on conflict (owner_id) do update set
        last_change = owners.last_change + 1, live_tasks = owners.live_tasks + excluded.live_tasks
    returning last_change, live_tasks";

pub(super) const DEFAULT_LIST: &str = "
    insert into task_lists (owner_id, id, title, create_time, update_time, revision)
    values ($1, $1, 'Tasks', $2, $2, 1) on conflict (owner_id, id) do nothing";

pub(super) const REQUEST: &str =
    "select hash, answer from requests where owner_id = $1 and id = $2 and create_time > $3";

pub(super) const REMEMBER: &str = "
    insert into requests (owner_id, id, hash, answer, create_time) values ($1, $2, $3, $4, $5)
    on conflict (owner_id, id) do update set
        hash = excluded.hash, answer = excluded.answer, create_time = excluded.create_time";

pub(super) const LIVE: &str = "update owners set live_tasks = live_tasks + $2 where owner_id = $1";

/// Takes the next number of the owner's acts, which keeps every other act of the owner waiting until the commit.
macro_rules! lock_owner {
    ($connection:expr, $owner:expr, $creates:expr, $now:expr) => {{
        let lock = ::sqlx::query_as($crate::store::acts::LOCK).bind($owner).bind($creates);
        let (place, live): (i64, i64) = lock.fetch_one(&mut *$connection).await?;
        if place == 1 {
            let make = ::sqlx::query($crate::store::acts::DEFAULT_LIST).bind($owner).bind($now);
            make.execute(&mut *$connection).await?;
        }
        (place, live)
    }};
}
pub(super) use lock_owner;

/// Ends the attempt if the request has come before.
macro_rules! end_if_replayed {
    ($connection:expr, $owner:expr, $now:expr, $mode:expr) => {
        if let Some(request) = &$mode.request {
            let asked = ::sqlx::query_as($crate::store::acts::REQUEST);
            let asked = asked.bind($owner).bind(request.id).bind($now - $crate::store::acts::REPLAYED_FOR);
            let before: Option<(String, String)> = asked.fetch_optional(&mut *$connection).await?;
            if let Some((hash, answer)) = before {
                let same = hash == request.hash;
                return Ok(Err(if same {
                    $crate::store::acts::Undone::Replayed(answer)
                } else {
                    $crate::store::acts::Undone::Refused($crate::error::request_id_reused())
                }));
            }
        }
    };
}
pub(super) use end_if_replayed;

/// Remembers the answer to a request that may come again.
macro_rules! remember {
    ($connection:expr, $owner:expr, $now:expr, $mode:expr, $answer:expr) => {
        if let Some(request) = $mode.request {
            let answer = ::base64::Engine::encode(&::base64::prelude::BASE64_URL_SAFE_NO_PAD, $answer);
            let remember = ::sqlx::query($crate::store::acts::REMEMBER).bind($owner).bind(request.id);
            let remember = remember.bind(request.hash).bind(answer).bind($now);
            remember.execute(&mut *$connection).await?;
        }
    };
}
pub(super) use remember;

const INSERT: &str = with_columns!("insert into tasks (search,", ") ");

const OVERWRITE: &str = "
    on conflict (owner_id, id) do update set
        search = excluded.search, list_id = excluded.list_id, parent_id = excluded.parent_id, title = excluded.title,
        notes = excluded.notes, priority = excluded.priority, due_date = excluded.due_date,
        due_time = excluded.due_time, due_at = excluded.due_at, time_zone = excluded.time_zone,
        labels = excluded.labels, rank = excluded.rank, update_time = excluded.update_time,
        complete_time = excluded.complete_time, delete_time = excluded.delete_time, purge_time = excluded.purge_time,
        revision = excluded.revision, change = excluded.change";

/// Writes tasks as they are now.
macro_rules! store {
    ($connection:expr, $known:expr) => {{
        let (made, changed): (Vec<&TaskRow>, Vec<&TaskRow>) =
            $known.changes().partition(|task| $known.made.contains(&task.id));
        let chunks = made.chunks(ROWS).map(|rows| (rows, "")).chain(changed.chunks(ROWS).map(|rows| (rows, OVERWRITE)));
        for (rows, then) in chunks {
            let mut statement = QueryBuilder::new(INSERT);
            statement.push_values(rows, |mut row, task| {
                row.push_bind(searched(&task.title, &task.notes))
                    .push_bind(task.owner_id)
                    .push_bind(task.id)
                    .push_bind(task.list_id)
                    .push_bind(task.parent_id)
                    .push_bind(task.title.clone())
                    .push_bind(task.notes.clone())
                    .push_bind(i64::from(task.priority))
                    .push_bind(task.due_date.clone())
                    .push_bind(task.due_time)
                    .push_bind(task.due_at)
                    .push_bind(task.time_zone.clone())
                    .push_bind(task.labels.clone())
                    .push_bind(task.rank.clone())
                    .push_bind(task.create_time)
                    .push_bind(task.update_time)
                    .push_bind(task.complete_time)
                    .push_bind(task.delete_time)
                    .push_bind(task.purge_time)
                    .push_bind(task.revision)
                    .push_bind(task.change);
            });
            // One row is what most writes are: that statement is worth keeping.
            let statement = statement.push(then).build().persistent(rows.len() == 1);
            statement.execute(&mut *$connection).await?;
        }
    }};
}

/// Does it: all of it or nothing.
///
/// # Errors
/// What the writes are refused for, with the path of the one that is to blame; QUOTA_EXCEEDED; REQUEST_ID_REUSED; those
/// of the database.
pub(crate) async fn perform(db: &Db, act: Act) -> Result<Answer<Rows>, Refusal> {
    let done: Result<Rows, Undone<Rows>> = db_attempt!(db, |connection| {
        let Act { owner, now, purge_time, max_tasks, mode, writes, prefixes, new_ids, encode } = act;
        let needs = Needs::of(owner, &writes);
        let (place, live) = lock_owner!(connection, owner, needs.creates, now);
        end_if_replayed!(connection, owner, now, mode);
        let tasks = if needs.up.is_empty() && needs.down.is_empty() {
            HashMap::new()
        } else {
            read_tasks!(connection, owner, now, needs)
        };
        let lists = read_lists!(connection, owner, needs, tasks);
        let ranks = read_ranks!(connection, owner, needs, tasks, lists);
        let moment = Moment { owner, now, purge_time, place: Place(place) };
        // Those that are made have been counted already.
        let room = max_tasks - (live - needs.creates);
        let (changed, made) = (BTreeSet::new(), HashSet::new());
        let mut known = Known { moment, tasks, lists, ranks, changed, made, live: 0, room };
        let rows = match apply(&mut known, writes, &prefixes, &new_ids) {
            Ok(rows) => rows,
            Err(refusal) => return Ok(Err(Undone::Refused(refusal))),
        };
        let more = known.live - needs.creates;
        if mode.validate_only || (known.changed.is_empty() && mode.request.is_none()) {
            return Ok(Err(Undone::Tried(rows)));
        }
        store!(connection, known);
        if more != 0 {
            query(LIVE).bind(owner).bind(more).execute(&mut *connection).await?;
        }
        remember!(connection, owner, now, mode, encode(&rows));
        Ok(Ok(rows))
    })?;
    answer(done)
}

/// Does the writes one after the other; what one of them is refused for is told with its path.
fn apply(
    known: &mut Known,
    writes: Vec<Write>,
    prefixes: &[String],
    new_ids: &[Uuid],
) -> Result<Vec<Option<TaskRow>>, Refusal> {
    let mut rows = Vec::with_capacity(writes.len());
    for (number, (write, new_id)) in writes.into_iter().zip(new_ids).enumerate() {
        let id_path = match write {
            Write::Create(_) => "task",
            Write::Update(_) => "task.id",
            _ => "id",
        };
        match known.apply(number, write, *new_id) {
            Ok(row) => rows.push(row),
            Err((refusal, blamed)) => {
                let prefix = prefixes.get(number);
                let path = blamed.or_else(|| prefix.is_some().then_some((id_path, "is the task in question")));
                let refusal = if prefix.is_some() { batch::of_write(refusal, number) } else { refusal };
                let prefix = prefix.map(String::as_str).unwrap_or_default();
                return Err(match path {
                    Some((path, fault)) => refusal.field(format!("{prefix}{path}"), fault),
                    None => refusal,
                });
            }
        }
    }
    Ok(rows)
}
