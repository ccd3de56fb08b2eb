//! What a mutation reads before the model decides: the tasks that it names with their ancestors and descendants, and the
//! lists and ranks where they go.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use service_kit::{
    clock::Timestamp,
    db::{Conn, Error, QueryBuilder},
};
use uuid::Uuid;

use super::rows::TASK_COLUMNS;
use crate::model::{TaskRow, act::Scope, write::Write};

/// Tasks by their ids.
pub(super) type Tasks = HashMap<Uuid, TaskRow>;

/// What the writes of a mutation concern.
#[derive(Default)]
pub(super) struct ReadSet {
    /// Tasks to be read with their ancestors.
    pub(super) up: Vec<Uuid>,
    /// Tasks to be read with their descendants.
    pub(super) down: Vec<Uuid>,
    pub(super) lists: HashSet<Uuid>,
    /// Tasks whose list may be gone.
    pub(super) undeleted: Vec<Uuid>,
    /// Tasks beside which another is moved.
    pub(super) anchors: Vec<Uuid>,
    pub(super) creates: i64,
    /// Whether there is a single write, so that no other one of the mutation goes before it.
    pub(super) is_single: bool,
    /// Whether ancestors or descendants are read at all.
    pub(super) has_families: bool,
}

impl ReadSet {
    pub(super) fn from_writes(owner: Uuid, writes: &[Write]) -> Self {
        let mut set = Self { is_single: writes.len() == 1, ..Self::default() };
        set.lists.insert(owner);
        for write in writes {
            match write {
                Write::Create(task) => {
                    set.creates += 1;
                    set.has_families |= task.parent_id.is_some();
                    set.up.extend(task.parent_id);
                    set.lists.extend(task.list_id);
                }
                Write::Update(update) => set.up.push(update.target.id),
                Write::Complete(target) | Write::Reopen(target) => set.up.push(target.id),
                Write::Delete { target, .. } => {
                    set.has_families = true;
                    set.down.push(target.id);
                }
                Write::Undelete(target) => {
                    set.has_families = true;
                    set.up.push(target.id);
                    set.down.push(target.id);
                    set.undeleted.push(target.id);
                }
                Write::Move(order) => {
                    set.has_families = true;
                    set.up.extend(order.parent_id);
                    set.down.push(order.target.id);
                    set.lists.extend(order.list_id);
                    let anchor = order.position.anchor().map(|(id, _)| id);
                    set.up.extend(anchor);
                    set.anchors.extend(anchor);
                }
            }
        }
        set
    }
}

/// Reads the tasks. One whose purge time has come is missing, purged or not.
pub(super) async fn read_tasks(conn: &mut Conn, owner: Uuid, now: Timestamp, set: &ReadSet) -> Result<Tasks, Error> {
    if set.up.is_empty() && set.down.is_empty() {
        return Ok(HashMap::new());
    }
    let mut select = QueryBuilder::default();
    if set.has_families {
        select.push("with recursive up (id, parent_id) as (select id, parent_id from tasks where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(set.up.iter().copied());
        select.push(" union select task.id, task.parent_id from up join tasks task on task.id = up.parent_id");
        select.push(" where task.owner_id = ").push_bind(owner);
        select.push("), down (id) as (select id from tasks where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(set.down.iter().copied());
        select.push(" union select task.id from down join tasks task on task.parent_id = down.id");
        select.push(" where task.owner_id = ").push_bind(owner).push(") ");
    }
    select.push(format_args!("select {TASK_COLUMNS} from tasks where owner_id = ")).push_bind(owner);
    if set.has_families {
        select.push(" and id in (select id from up union select id from down)");
    } else {
        select.push(" and id in ").push_ids(set.up.iter().copied());
    }
    select.push(" and (purge_time is null or purge_time > ").push_bind(now).push(")");
    // Most mutations concern one task, so that statement is worth keeping.
    let (sql, values) = select.build_if_cached(!set.has_families && set.up.len() == 1);
    let tasks: Vec<TaskRow> = conn.fetch_all(sql, values).await?;
    Ok(tasks.into_iter().map(|task| (task.id, task)).collect())
}

/// Reads which of the lists exist. The default list always does.
pub(super) async fn read_lists(
    conn: &mut Conn,
    owner: Uuid,
    set: &ReadSet,
    tasks: &Tasks,
) -> Result<HashSet<Uuid>, Error> {
    let mut wanted = set.lists.clone();
    wanted.extend(set.undeleted.iter().filter_map(|id| tasks.get(id)).map(|task| task.list_id));
    wanted.remove(&owner);
    let mut lists = HashSet::from([owner]);
    if !wanted.is_empty() {
        let mut select = QueryBuilder::new("select id from task_lists where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(wanted.iter().copied());
        let (sql, values) = select.build_if_cached(wanted.len() == 1);
        lists.extend(conn.fetch_all::<Uuid>(sql, values).await?);
    }
    Ok(lists)
}

/// A task's rank, its id and where it is.
type Rank = (String, Uuid, Uuid, Option<Uuid>);

/// Reads the ranks beside the tasks that others are moved beside: the nearest on either side of a single one, three each,
/// since one of them may be the task that moves; in a batch, all in the lists concerned, since each write changes who is
/// near.
pub(super) async fn read_ranks(
    conn: &mut Conn,
    owner: Uuid,
    set: &ReadSet,
    tasks: &Tasks,
    lists: &HashSet<Uuid>,
) -> Result<HashMap<Uuid, BTreeMap<String, Uuid>>, Error> {
    let anchors: Vec<&TaskRow> = set.anchors.iter().filter_map(|id| tasks.get(id)).collect();
    let found: Vec<Rank> = match anchors[..] {
        [] => Vec::new(),
        [anchor] if set.is_single => read_nearest(conn, owner, anchor).await?,
        _ => {
            let lists: BTreeSet<Uuid> = tasks.values().map(|task| task.list_id).chain(lists.iter().copied()).collect();
            let mut select = QueryBuilder::new("select rank, id, list_id, parent_id from tasks where owner_id = ");
            select.push_bind(owner).push(" and list_id in ").push_ids(lists);
            let (sql, values) = select.build();
            conn.fetch_all(sql, values).await?
        }
    };
    let mut ranks: HashMap<Uuid, BTreeMap<String, Uuid>> = HashMap::new();
    for (rank, id, list_id, parent_id) in found {
        ranks.entry(Scope { list_id, parent_id }.holder()).or_default().insert(rank, id);
    }
    Ok(ranks)
}

async fn read_nearest(conn: &mut Conn, owner: Uuid, anchor: &TaskRow) -> Result<Vec<Rank>, Error> {
    let mut select = QueryBuilder::default();
    for (side, order) in [("<", "desc"), (">=", "asc")] {
        if side == ">=" {
            select.push(" union all ");
        }
        select.push("select * from (select rank, id, list_id, parent_id from tasks where owner_id = ");
        select.push_bind(owner).push(" and list_id = ").push_bind(anchor.list_id);
        match anchor.parent_id {
            Some(parent) => select.push(" and parent_id = ").push_bind(parent),
            None => select.push(" and parent_id is null"),
        };
        select.push(format_args!(" and rank {side} ")).push_bind(&anchor.rank);
        select.push(format_args!(" order by rank {order} limit 3) beside_{order}"));
    }
    // There are but two of these statements.
    let (sql, values) = select.build_if_cached(true);
    conn.fetch_all(sql, values).await
}
