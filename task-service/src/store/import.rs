//! The reads of imports: which tasks exist already, and how many more an account may have.

use std::collections::{HashMap, HashSet};

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, QueryBuilder, ReadKind},
};
use uuid::Uuid;

use super::read_set::read_taken;
use crate::model::mutation::MAX_LEVELS;

/// A task that was imported.
#[derive(Clone, Debug)]
pub(crate) struct ImportedTask {
    pub(crate) id: Uuid,
    pub(crate) title: String,
    pub(crate) delete_time: Option<Timestamp>,
}

/// The tasks of an account that have some source ids or ids, active or deleted.
#[derive(Debug, Default)]
pub(crate) struct ExistingTasks {
    pub(crate) by_source: HashMap<String, ImportedTask>,
    /// The times of the deletion.
    pub(crate) by_id: HashMap<Uuid, Option<Timestamp>>,
    /// The ids that new tasks cannot have.
    pub(crate) taken: HashSet<Uuid>,
}

/// Finds the tasks with these source ids or ids: at most a few hundred of each.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_existing(
    db: &Db,
    owner: Uuid,
    sources: Vec<String>,
    ids: Vec<Uuid>,
) -> Result<ExistingTasks, Error> {
    db.read(ReadKind::Scan, move |conn| Box::pin(find(conn, owner, sources, ids))).await
}

async fn find(conn: &mut Conn, owner: Uuid, sources: Vec<String>, ids: Vec<Uuid>) -> Result<ExistingTasks, Error> {
    let mut existing = ExistingTasks { by_source: find_sources(conn, owner, &sources).await?, ..Default::default() };
    if !ids.is_empty() {
        let mut select = QueryBuilder::new("select id, delete_time from tasks where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(ids.iter().copied());
        let (sql, values) = select.build();
        existing.by_id = conn.fetch_all(sql, values).await?.into_iter().collect();
        existing.taken = read_taken(conn, owner, &ids).await?;
    }
    Ok(existing)
}

/// Where an active task is in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// 1 at the top level.
    pub(crate) level: usize,
    pub(crate) parent_id: Option<Uuid>,
}

/// Finds where tasks are: at most a few hundred.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_locations(db: &Db, owner: Uuid, ids: Vec<Uuid>) -> Result<Vec<(Uuid, Location)>, Error> {
    let parents = db.read(ReadKind::Scan, {
        let ids = ids.clone();
        move |conn| Box::pin(read_ancestors(conn, owner, ids))
    });
    let parents = parents.await?;
    let locate = |id: Uuid| {
        let ancestors =
            std::iter::successors(parents.get(&id).copied().flatten(), |id| parents.get(id).copied().flatten());
        Some((id, Location { level: 1 + ancestors.take(MAX_LEVELS).count(), parent_id: *parents.get(&id)? }))
    };
    Ok(ids.into_iter().filter_map(locate).collect())
}

/// Returns the parents of tasks and of their ancestors.
async fn read_ancestors(conn: &mut Conn, owner: Uuid, ids: Vec<Uuid>) -> Result<HashMap<Uuid, Option<Uuid>>, Error> {
    let (mut parents, mut unread) = (HashMap::new(), ids);
    for _ in 0..MAX_LEVELS {
        if unread.is_empty() {
            break;
        }
        let mut select = QueryBuilder::new("select id, parent_id from tasks where owner_id = ");
        select.push_bind(owner).push(" and id in ").push_ids(unread.drain(..));
        let (sql, values) = select.build();
        let found: Vec<(Uuid, Option<Uuid>)> = conn.fetch_all(sql, values).await?;
        unread.extend(found.iter().filter_map(|(_, parent)| *parent));
        parents.extend(found);
        unread.sort_unstable();
        unread.dedup();
        unread.retain(|id| !parents.contains_key(id));
    }
    Ok(parents)
}

/// Returns the tasks with these source ids.
///
/// # Errors
/// Those of the database.
pub(super) async fn find_sources(
    conn: &mut Conn,
    owner: Uuid,
    sources: &[String],
) -> Result<HashMap<String, ImportedTask>, Error> {
    if sources.is_empty() {
        return Ok(HashMap::new());
    }
    let mut select = QueryBuilder::new("select source_id, id, title, delete_time from tasks where owner_id = ");
    select.push_bind(owner).push(" and source_id in (");
    for (index, source) in sources.iter().enumerate() {
        select.push(if index == 0 { "" } else { ", " }).push_bind(source);
    }
    select.push(")");
    let (sql, values) = select.build();
    let found: Vec<(String, Uuid, String, Option<Timestamp>)> = conn.fetch_all(sql, values).await?;
    let task = |(source, id, title, delete_time)| (source, ImportedTask { id, title, delete_time });
    Ok(found.into_iter().map(task).collect())
}

/// What an account has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) active_tasks: usize,
    /// Including the default list, which always exists.
    pub(crate) lists: usize,
}

/// Returns the numbers of active tasks and of lists of an account.
///
/// # Errors
/// Those of the database.
pub(crate) async fn counts(db: &Db, owner: Uuid) -> Result<Counts, Error> {
    const COUNTS: &str = "select live_tasks, live_lists from owners where owner_id = $1";
    let (tasks, lists): (i64, i64) = db.fetch_optional(COUNTS, args![owner]).await?.unwrap_or((0, 1));
    let count = |count: i64| usize::try_from(count).unwrap_or_default();
    Ok(Counts { active_tasks: count(tasks), lists: count(lists) })
}
