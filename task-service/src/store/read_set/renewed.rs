//! Reads the subtasks of recurring tasks, which are copied when such a task is completed.

use std::collections::HashMap;

use service_kit::{
    clock::Timestamp,
    db::{Conn, Error, QueryBuilder},
};
use uuid::Uuid;

use super::{ReadSet, read_relatives};
use crate::{
    model::{TaskRow, mutation::Relative},
    store::rows::{MAX_IDS, TASK_COLUMNS, tasks_with_texts},
};

/// Maximum number of subtasks that are read with their texts: more than a mutation copies.
const MAX_SUBTASKS: usize = 500;

/// Adds the recurring subtasks that are completed, and the subtasks of all recurring tasks that are completed, to `tasks`.
/// Returns all relatives. Reads nothing if no task recurs.
pub(super) async fn read(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    set: &ReadSet,
    tasks: &mut HashMap<Uuid, TaskRow>,
    mut relatives: Vec<Relative>,
) -> Result<Vec<Relative>, Error> {
    let recurs =
        |id: &Uuid| set.made_recurring.contains(id) || tasks.get(id).is_some_and(|task| task.recurrence.is_some());
    let mut recurring: Vec<_> = set.completed.iter().copied().filter(recurs).collect();
    if set.completes_subtasks {
        let open = relatives.iter().filter(|relative| relative.node.complete_time.is_none());
        let open: Vec<_> = open.map(|relative| relative.id).filter(|id| !tasks.contains_key(id)).collect();
        for ids in open.chunks(MAX_IDS) {
            for task in read_rows(conn, owner, ids, " and recurrence is not null").await? {
                recurring.push(task.id);
                tasks.insert(task.id, task);
            }
        }
    }
    if recurring.is_empty() {
        return Ok(relatives);
    }
    let subtasks = ReadSet { with_descendants: recurring, ..ReadSet::default() };
    let (active, deleted): (Vec<_>, Vec<_>) =
        read_relatives(conn, owner, now, &subtasks).await?.into_iter().partition(|subtask| subtask.node.is_active());
    // Other writes of a batch may restore subtasks, or move others to a recurring task.
    let candidates = active.iter().chain(&deleted).chain(&relatives).map(|relative| relative.id);
    let unread: Vec<_> = candidates.filter(|id| !tasks.contains_key(id)).take(MAX_SUBTASKS).collect();
    for task in read_rows(conn, owner, &unread, "").await? {
        tasks.insert(task.id, task);
    }
    relatives.extend(active.into_iter().chain(deleted));
    Ok(relatives)
}

/// Returns the tasks with these ids that also meet a condition.
async fn read_rows(conn: &mut Conn, owner: Uuid, ids: &[Uuid], condition: &str) -> Result<Vec<TaskRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = QueryBuilder::new(format!("select {TASK_COLUMNS} from {}", tasks_with_texts(conn.engine())));
    select.push(" where owner_id = ").push_bind(owner).push(" and id in ").push_ids(ids.iter().copied());
    select.push(condition);
    let (sql, values) = select.build();
    conn.fetch_all(sql, values).await
}
