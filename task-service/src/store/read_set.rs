//! Reads the rows that the model needs to apply a mutation: the tasks that the mutation names, the locations of their
//! ancestors and descendants, and the lists and ranks at their new positions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use service_kit::{
    clock::Timestamp,
    db::{Conn, Engine, Error, QueryBuilder},
};
use uuid::Uuid;

use super::rows::{RELATIVE_COLUMNS, TASK_COLUMNS, tasks_with_texts};
use crate::model::{
    TaskRow,
    mutation::{Relative, Scope, TaskTree},
    write::{Change, Write},
};

mod renewed;

/// The rows to read for a mutation.
#[derive(Default)]
pub(super) struct ReadSet {
    /// Tasks to read, with the locations of their ancestors if `reads_relatives`.
    pub(super) with_ancestors: Vec<Uuid>,
    /// Tasks to read with the locations of their descendants.
    pub(super) with_descendants: Vec<Uuid>,
    pub(super) lists: HashSet<Uuid>,
    /// Tasks to undelete, whose list may have been deleted.
    pub(super) undeleted: Vec<Uuid>,
    /// Tasks beside which another is moved.
    pub(super) anchors: Vec<Uuid>,
    /// The ids that clients have chosen for new tasks.
    pub(super) chosen: Vec<Uuid>,
    /// The source ids of tasks to import.
    pub(super) sources: Vec<String>,
    /// The number of tasks to create.
    pub(super) create_count: i64,
    /// Whether there is a single write, so that no other write of the mutation precedes it.
    pub(super) is_single: bool,
    /// Whether any write needs ancestors or descendants.
    pub(super) reads_relatives: bool,
    /// Tasks to complete. If they recur, their subtasks are copied.
    pub(super) completed: Vec<Uuid>,
    /// Whether subtasks are completed as well, which may recur.
    pub(super) completes_subtasks: bool,
    /// Tasks that an earlier write may make recurring.
    pub(super) made_recurring: Vec<Uuid>,
    /// Tasks whose recurrence is skipped, stopped or changed, which depends on whether their next occurrence exists.
    pub(super) rescheduled: Vec<Uuid>,
}

impl ReadSet {
    pub(super) fn from_writes(owner: Uuid, writes: &[Write]) -> Self {
        let mut set = Self { is_single: writes.len() == 1, ..Self::default() };
        set.lists.insert(owner);
        for write in writes {
            set.rescheduled.extend(write.recurrence_target());
            match write {
                Write::Create(task) => {
                    set.create_count += 1;
                    set.chosen.extend(task.id);
                    set.sources.extend(task.imported.as_ref().and_then(|imported| imported.source_id.clone()));
                    set.made_recurring.extend(task.id.filter(|_| task.recurrence.is_some()));
                    set.reads_relatives |= task.parent_id.is_some();
                    set.with_ancestors.extend(task.parent_id);
                    set.lists.extend(task.list_id);
                }
                Write::Update(update) => {
                    set.with_ancestors.push(update.target.id);
                    set.made_recurring.extend(matches!(update.recurrence, Change::Set(_)).then_some(update.target.id));
                }
                Write::Complete { target, include_subtasks } => {
                    set.completed.push(target.id);
                    set.completes_subtasks |= include_subtasks;
                    set.reads_relatives |= include_subtasks;
                    if *include_subtasks { &mut set.with_descendants } else { &mut set.with_ancestors }.push(target.id);
                }
                Write::Reopen(target)
                | Write::SkipOccurrence(target)
                | Write::StopRecurrence(target)
                | Write::Snooze { target, .. }
                | Write::Acknowledge { target, .. } => {
                    set.with_ancestors.push(target.id);
                }
                Write::Delete { target, .. } => {
                    set.reads_relatives = true;
                    set.with_descendants.push(target.id);
                }
                Write::Undelete(target) => {
                    set.reads_relatives = true;
                    set.with_ancestors.push(target.id);
                    set.with_descendants.push(target.id);
                    set.undeleted.push(target.id);
                }
                Write::Move(task_move) => {
                    set.reads_relatives = true;
                    set.with_ancestors.extend(task_move.parent_id);
                    set.with_descendants.push(task_move.target.id);
                    set.lists.extend(task_move.list_id);
                    let anchor = task_move.position.anchor().map(|(id, _)| id);
                    set.with_ancestors.extend(anchor);
                    set.anchors.extend(anchor);
                }
            }
        }
        set
    }
}

/// Reads the tasks that the writes name, and only the locations of their ancestors and descendants. From its purge time
/// on, a task is missing, even if it has not been purged yet.
pub(super) async fn read_tasks(conn: &mut Conn, owner: Uuid, now: Timestamp, set: &ReadSet) -> Result<TaskTree, Error> {
    if set.with_ancestors.is_empty() && set.with_descendants.is_empty() {
        return Ok(TaskTree::new(HashMap::new(), Vec::new()));
    }
    let ids = || set.with_ancestors.iter().chain(&set.with_descendants).copied();
    let mut select = QueryBuilder::new(format!("select {TASK_COLUMNS} from {}", tasks_with_texts(conn.engine())));
    select.push(" where owner_id = ").push_bind(owner).push(" and id in ").push_ids(ids());
    select.push(" and (purge_time is null or purge_time > ").push_bind(now).push(")");
    // Most mutations name one task, so their statement is worth caching.
    let (sql, values) = select.build_with_cache(ids().count() == 1);
    let tasks: Vec<TaskRow> = conn.fetch_all(sql, values).await?;
    let relatives = if set.reads_relatives { read_relatives(conn, owner, now, set).await? } else { Vec::new() };
    let mut tasks: HashMap<_, _> = tasks.into_iter().map(|task| (task.id, task)).collect();
    let mut relatives = renewed::read(conn, owner, now, set, &mut tasks, relatives).await?;
    relatives.extend(read_next_occurrences(conn, owner, now, set, &tasks).await?);
    Ok(TaskTree::new(tasks, relatives))
}

/// Reads the locations of the next occurrences of the tasks whose recurrence is changed. Reads nothing if these have none.
async fn read_next_occurrences(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    set: &ReadSet,
    tasks: &HashMap<Uuid, TaskRow>,
) -> Result<Vec<Relative>, Error> {
    let next = |id: &Uuid| tasks.get(id)?.occurrence()?.next_task_id;
    let next: Vec<_> = set.rescheduled.iter().filter_map(next).filter(|id| !tasks.contains_key(id)).collect();
    if next.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = QueryBuilder::new(format!("select {} from tasks", RELATIVE_COLUMNS.join(", ")));
    select.push(" where owner_id = ").push_bind(owner).push(" and id in ").push_ids(next.iter().copied());
    select.push(" and (purge_time is null or purge_time > ").push_bind(now).push(")");
    let (sql, values) = select.build_with_cache(next.len() == 1);
    conn.fetch_all(sql, values).await
}

/// Reads the locations of the tasks that the writes name, of their ancestors and of their descendants.
async fn read_relatives(conn: &mut Conn, owner: Uuid, now: Timestamp, set: &ReadSet) -> Result<Vec<Relative>, Error> {
    // Without the hints, SQLite would read all tasks of the owner for each parent.
    let children = match conn.engine() {
        Engine::Sqlite => "cross join tasks task indexed by tasks_by_parent on task.parent_id = down.id",
        Engine::Postgres => "join tasks task on task.parent_id = down.id",
    };
    let columns = RELATIVE_COLUMNS.join(", ");
    let task_columns = RELATIVE_COLUMNS.map(|column| format!("task.{column}")).join(", ");
    let mut select = QueryBuilder::new("with recursive ");
    for (name, ids, join) in [
        ("up", &set.with_ancestors, "join tasks task on task.id = up.parent_id"),
        ("down", &set.with_descendants, children),
    ] {
        select.push(format_args!("{name} as (select {columns} from tasks where owner_id = ")).push_bind(owner);
        select.push(" and id in ").push_ids(ids.iter().copied());
        select.push(format_args!(" union select {task_columns} from {name} {join} where task.owner_id = "));
        select.push_bind(owner).push(if name == "up" { "), " } else { ") " });
    }
    select.push(format_args!("select {columns} from (select * from up union select * from down) relatives"));
    select.push(" where purge_time is null or purge_time > ").push_bind(now);
    let (sql, values) = select.build_with_cache(set.with_ancestors.len() + set.with_descendants.len() == 1);
    conn.fetch_all(sql, values).await
}

/// Returns the chosen ids that tasks and lists of the owner have. The id of a purged task or a deleted list is taken as
/// long as clients may still have to learn that it was removed. The id of the owner is that of the default list.
pub(super) async fn read_taken(conn: &mut Conn, owner: Uuid, chosen: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    let mut taken: HashSet<Uuid> = chosen.iter().copied().filter(|id| *id == owner).collect();
    if chosen.is_empty() {
        return Ok(taken);
    }
    let mut select = QueryBuilder::default();
    for (index, table) in ["tasks", "removed_tasks", "task_lists"].into_iter().enumerate() {
        let union = if index == 0 { "" } else { " union all " };
        select.push(format_args!("{union}select id from {table} where owner_id = ")).push_bind(owner);
        select.push(" and id in ").push_ids(chosen.iter().copied());
    }
    let (sql, values) = select.build_with_cache(chosen.len() == 1);
    taken.extend(conn.fetch_all::<Uuid>(sql, values).await?);
    Ok(taken)
}

/// Returns the lists that exist, including the default list, which always exists.
pub(super) async fn read_lists(
    conn: &mut Conn,
    owner: Uuid,
    set: &ReadSet,
    tasks: &TaskTree,
) -> Result<HashSet<Uuid>, Error> {
    let mut candidates = set.lists.clone();
    candidates.extend(set.undeleted.iter().filter_map(|id| tasks.task(*id)).map(|task| task.list_id));
    candidates.remove(&owner);
    let mut lists = HashSet::from([owner]);
    if !candidates.is_empty() {
        let mut select = QueryBuilder::new("select id from task_lists where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(candidates.iter().copied());
        let (sql, values) = select.build_with_cache(candidates.len() == 1);
        lists.extend(conn.fetch_all::<Uuid>(sql, values).await?);
    }
    Ok(lists)
}

/// The rank, the id, the list and the parent of a task.
type Rank = (String, Uuid, Uuid, Option<Uuid>);

/// Reads the ranks near the anchors. For a single move, these are the three ranks before the anchor, its own, and the
/// two after it: a move needs one neighbor, and the moved task itself may be in between. For a batch, these are all
/// ranks of the lists involved, because each write changes the neighbors, and may create the anchor.
pub(super) async fn read_ranks(
    conn: &mut Conn,
    owner: Uuid,
    set: &ReadSet,
    tasks: &TaskTree,
    lists: &HashSet<Uuid>,
) -> Result<HashMap<Uuid, BTreeMap<String, Uuid>>, Error> {
    let found: Vec<Rank> = match set.anchors[..] {
        [] => Vec::new(),
        [anchor] if set.is_single => match tasks.task(anchor) {
            Some(anchor) => read_nearest(conn, owner, anchor).await?,
            None => Vec::new(),
        },
        _ => {
            let lists: BTreeSet<Uuid> = tasks.list_ids().chain(lists.iter().copied()).collect();
            let mut select = QueryBuilder::new("select rank, id, list_id, parent_id from tasks where owner_id = ");
            select.push_bind(owner).push(" and list_id in ").push_ids(lists);
            let (sql, values) = select.build();
            conn.fetch_all(sql, values).await?
        }
    };
    let mut ranks: HashMap<Uuid, BTreeMap<String, Uuid>> = HashMap::new();
    for (rank, id, list_id, parent_id) in found {
        ranks.entry(Scope { list_id, parent_id }.container_id()).or_default().insert(rank, id);
    }
    Ok(ranks)
}

async fn read_nearest(conn: &mut Conn, owner: Uuid, anchor: &TaskRow) -> Result<Vec<Rank>, Error> {
    let mut select = QueryBuilder::default();
    for (operator, order) in [("<", "desc"), (">=", "asc")] {
        if operator == ">=" {
            select.push(" union all ");
        }
        select.push("select * from (select rank, id, list_id, parent_id from tasks where owner_id = ");
        select.push_bind(owner).push(" and list_id = ").push_bind(anchor.list_id);
        match anchor.parent_id {
            Some(parent) => select.push(" and parent_id = ").push_bind(parent),
            None => select.push(" and parent_id is null"),
        };
        select.push(format_args!(" and rank {operator} ")).push_bind(&anchor.rank);
        select.push(format_args!(" order by rank {order} limit 3) beside_{order}"));
    }
    // There are only two variants of this statement.
    let (sql, values) = select.build_with_cache(true);
    conn.fetch_all(sql, values).await
}
