//! What an act needs to know before it is done: the tasks that it is about, with their families, and the lists and ranks
//! where they go.

use std::collections::HashSet;

use uuid::Uuid;

use crate::model::write::Write;

/// What the writes need to know.
#[derive(Default)]
pub(super) struct Needs {
    /// Tasks, with those that they are a part of.
    pub(super) up: Vec<Uuid>,
    /// Tasks, with those that are a part of them.
    pub(super) down: Vec<Uuid>,
    pub(super) lists: HashSet<Uuid>,
    /// Tasks whose list may be gone.
    pub(super) undeleted: Vec<Uuid>,
    pub(super) anchors: Vec<Uuid>,
    pub(super) creates: i64,
    /// Whether there is one write alone, which no other of the same act goes before.
    pub(super) single: bool,
    /// Whether more than the tasks themselves is needed.
    pub(super) families: bool,
}

impl Needs {
    pub(super) fn of(owner: Uuid, writes: &[Write]) -> Self {
        let mut needs = Self { single: writes.len() == 1, ..Self::default() };
        needs.lists.insert(owner);
        for write in writes {
            match write {
                Write::Create(task) => {
                    needs.creates += 1;
                    needs.families |= task.parent_id.is_some();
                    needs.up.extend(task.parent_id);
                    needs.lists.extend(task.list_id);
                }
                Write::Update(update) => needs.up.push(update.target.id),
                Write::Complete(target) | Write::Reopen(target) => needs.up.push(target.id),
                Write::Delete { target, .. } => {
                    needs.families = true;
                    needs.down.push(target.id);
                }
                Write::Undelete(target) => {
                    needs.families = true;
                    needs.up.push(target.id);
                    needs.down.push(target.id);
                    needs.undeleted.push(target.id);
                }
                Write::Move(order) => {
                    needs.families = true;
                    needs.up.extend(order.parent_id);
                    needs.down.push(order.target.id);
                    needs.lists.extend(order.list_id);
                    let anchor = order.position.anchor().map(|(id, _)| id);
                    needs.up.extend(anchor);
                    needs.anchors.extend(anchor);
                }
            }
        }
        needs
    }
}

/// Pushes a list of ids. An empty list is none that SQL knows; no id is nil.
macro_rules! push_ids {
    ($statement:expr, $ids:expr) => {{
        let mut list = $statement.separated(", ");
        list.push_bind(Uuid::nil());
        for id in $ids {
            list.push_bind(*id);
        }
    }};
}
pub(super) use push_ids;

/// Reads the tasks that are needed.
macro_rules! read_tasks {
    ($connection:expr, $owner:expr, $now:expr, $needs:expr) => {{
        let (owner, needs): (Uuid, &Needs) = ($owner, &$needs);
        // One task alone is what most writes are about: that statement is worth keeping.
        let single = !needs.families && needs.up.len() == 1;
        let mut statement = QueryBuilder::new("");
        if needs.families {
            statement.push("with recursive up (id, parent_id) as (select id, parent_id from tasks where owner_id = ");
            statement.push_bind(owner).push(" and id in (");
            push_ids!(statement, &needs.up);
            statement.push(") union select task.id, task.parent_id from up join tasks task on task.id = up.parent_id");
            statement.push(" where task.owner_id = ").push_bind(owner);
            statement.push("), down (id) as (select id from tasks where owner_id = ").push_bind(owner);
            statement.push(" and id in (");
            push_ids!(statement, &needs.down);
            statement.push(") union select task.id from down join tasks task on task.parent_id = down.id");
            statement.push(" where task.owner_id = ").push_bind(owner).push(") ");
        }
        statement.push(with_columns!("select", "from tasks where owner_id = ")).push_bind(owner);
        if needs.families {
            statement.push(" and id in (select id from up union select id from down)");
        } else {
            statement.push(" and id in (");
            push_ids!(statement, &needs.up);
            statement.push(")");
        }
        // One whose purge time has come is missing, purged or not.
        statement.push(" and (purge_time is null or purge_time > ").push_bind($now).push(")");
        let rows: Vec<TaskRow> = statement.build_query_as().persistent(single).fetch_all(&mut *$connection).await?;
        rows.into_iter().map(|row| (row.id, row)).collect::<HashMap<_, _>>()
    }};
}
pub(super) use read_tasks;

/// Reads which of the lists that are needed there are.
macro_rules! read_lists {
    ($connection:expr, $owner:expr, $needs:expr, $tasks:expr) => {{
        let mut wanted: HashSet<Uuid> = $needs.lists.clone();
        wanted.extend($needs.undeleted.iter().filter_map(|id| $tasks.get(id)).map(|task| task.list_id));
        wanted.remove(&$owner);
        let mut known = HashSet::from([$owner]);
        if !wanted.is_empty() {
            let mut statement = QueryBuilder::new("select id from task_lists where owner_id = ");
            statement.push_bind($owner).push(" and id in (");
            push_ids!(statement, &wanted);
            let statement = statement.push(")").build_query_scalar().persistent(wanted.len() == 1);
            let found: Vec<Uuid> = statement.fetch_all(&mut *$connection).await?;
            known.extend(found);
        }
        known
    }};
}
pub(super) use read_lists;

/// Reads the ranks beside the tasks that others shall be moved beside: the nearest two on either side of a single one,
/// since one of them may be the task that moves; in a batch, all in the lists concerned, since each write changes
/// who is near.
macro_rules! read_ranks {
    ($connection:expr, $owner:expr, $needs:expr, $tasks:expr, $lists:expr) => {{
        let anchors: Vec<&TaskRow> = $needs.anchors.iter().filter_map(|id| $tasks.get(id)).collect();
        let rows: Vec<(String, Uuid, Uuid, Option<Uuid>)> = match anchors[..] {
            [] => Vec::new(),
            [anchor] if $needs.single => {
                let mut statement = QueryBuilder::new("");
                for (side, order) in [("<", "desc"), (">=", "asc")] {
                    if side == ">=" {
                        statement.push(" union all ");
                    }
                    statement.push("select * from (select rank, id, list_id, parent_id from tasks where owner_id = ");
                    statement.push_bind($owner).push(" and list_id = ").push_bind(anchor.list_id);
                    match anchor.parent_id {
                        Some(parent) => statement.push(" and parent_id = ").push_bind(parent),
                        None => statement.push(" and parent_id is null"),
                    };
                    statement.push(format!(" and rank {side} ")).push_bind(anchor.rank.clone());
                    statement.push(format!(" order by rank {order} limit 3) beside_{order}"));
                }
                // There are but two of these statements.
                statement.build_query_as().fetch_all(&mut *$connection).await?
            }
            _ => {
                let lists: BTreeSet<Uuid> =
                    $tasks.values().map(|task: &TaskRow| task.list_id).chain($lists.iter().copied()).collect();
                let mut statement =
                    QueryBuilder::new("select rank, id, list_id, parent_id from tasks where owner_id = ");
                statement.push_bind($owner).push(" and list_id in (");
                push_ids!(statement, &lists);
                statement.push(")").build_query_as().persistent(false).fetch_all(&mut *$connection).await?
            }
        };
        let mut ranks: HashMap<Uuid, BTreeMap<String, Uuid>> = HashMap::new();
        for (rank, id, list_id, parent_id) in rows {
            ranks.entry($crate::model::act::Scope { list_id, parent_id }.holder()).or_default().insert(rank, id);
        }
        ranks
    }};
}
pub(super) use read_ranks;
