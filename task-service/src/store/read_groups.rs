//! Reads of single tasks, which PostgreSQL executes in groups.

use std::sync::LazyLock;

use futures::future::BoxFuture;
use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, GroupKind, GroupOutcomes, Groups, Row, Sql, Value},
    status::ApiError,
};
use uuid::Uuid;

use super::{rows::TASK_COLUMNS, tasks};
use crate::{error::task_not_found, model::TaskRow};

/// A task to read.
#[derive(Clone, Copy)]
struct Key {
    owner: Uuid,
    id: Uuid,
    /// The time of the call, at which the task must not have been purged.
    now: Timestamp,
}

/// The reads of a process.
pub(crate) struct TaskReads {
    db: Db,
    groups: Groups<Key, TaskRow, ApiError>,
}

impl TaskReads {
    pub(crate) fn new(db: Db) -> Self {
        Self { groups: Groups::new(db.clone(), GroupKind::Read, read_group), db }
    }

    /// Returns a task, active or deleted.
    ///
    /// # Errors
    /// TASK_NOT_FOUND, and those of the database.
    pub(crate) async fn get(&self, owner: Uuid, now: Timestamp, id: Uuid) -> Result<TaskRow, ApiError> {
        match self.db.engine() {
            Engine::Sqlite => tasks::get(&self.db, owner, now, id).await,
            Engine::Postgres => {
                let alone = |Key { owner, id, now }| tasks::get(&self.db, owner, now, id);
                self.groups.call(Key { owner, id, now }, alone).await
            }
        }
    }
}

/// A task, and the number of its key in the group, beginning with 1.
struct Found(i64, TaskRow);

impl FromRow for Found {
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self(row.next()?, TaskRow::from_row(row)?))
    }
}

fn read_group(conn: &mut Conn, keys: Vec<Key>) -> BoxFuture<'_, Result<GroupOutcomes<TaskRow, ApiError>, Error>> {
    Box::pin(async move {
        let ids: Vec<_> = keys.iter().map(|key| (key.owner, key.id)).collect();
        let outcome = |(task, key): (Option<TaskRow>, &Key)| {
            let task = task.filter(|task| task.purge_time.is_none_or(|purge_time| purge_time > key.now));
            Some(task.ok_or_else(task_not_found))
        };
        Ok(fetch_tasks(conn, &ids).await?.into_iter().zip(&keys).map(outcome).collect())
    })
}

/// Returns the tasks with these owners and ids, also after their purge time. Only for PostgreSQL.
///
/// # Errors
/// Those of the database.
pub(super) async fn fetch_tasks(conn: &mut Conn, keys: &[(Uuid, Uuid)]) -> Result<Vec<Option<TaskRow>>, Error> {
    let mut tasks: Vec<Option<TaskRow>> = keys.iter().map(|_| None).collect();
    if keys.is_empty() {
        return Ok(tasks);
    }
    let arrays = Value::arrays(keys.iter().map(|(owner, id)| args![*owner, *id]).collect());
    for Found(number, task) in conn.fetch_all(select_group(), arrays).await? {
        let index = usize::try_from(number - 1).ok();
        if let Some(found) = index.and_then(|index| tasks.get_mut(index)) {
            *found = Some(task);
        }
    }
    Ok(tasks)
}

/// Returns the statement that reads tasks by their keys. The subquery makes the server use the index of the key for each
/// task: it does not know how many keys there are, and could read the whole table.
fn select_group() -> Sql {
    static SELECT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select number, task.* from unnest($1::uuid[], $2::uuid[]) with ordinality wanted (owner, task_id, number)
            cross join lateral (
                select {TASK_COLUMNS} from tasks where owner_id = owner and id = task_id limit 1
            ) task"
        )
    });
    SELECT.as_str().into()
}
