//! The change feed: the changes of an owner's tasks and lists, in the order of the mutations.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, QueryBuilder, ReadKind, Row},
    epoch::Epoch,
    status::ApiError,
};
use uuid::Uuid;

use super::rows::{TASK_COLUMNS, tasks_with_texts};
use crate::model::{TaskRow, list::ListRow, sync::SyncPoint};

/// A change of a task or a list.
#[derive(Debug)]
pub(crate) enum Change {
    /// The task in its current state, which may be deleted.
    Task(Box<TaskRow>),
    List(ListRow),
    /// The task or list has been removed permanently.
    Removed(Tombstone),
}

/// The record of a permanently removed task, or of a deleted list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    pub(crate) id: Uuid,
    /// The sequence number of the mutation that removed the task or list.
    pub(crate) change: i64,
    pub(crate) is_list: bool,
}

impl FromRow for Tombstone {
    /// Reads `id, change, is_list`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { id: row.next()?, change: row.next()?, is_list: row.next()? })
    }
}

impl Change {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Task(task) => task.id,
            Self::List(list) => list.id,
            Self::Removed(tombstone) => tombstone.id,
        }
    }

    /// Returns the sequence number of the mutation that made the change.
    pub(crate) fn sequence(&self) -> i64 {
        match self {
            Self::Task(task) => task.change,
            Self::List(list) => list.change,
            Self::Removed(tombstone) => tombstone.change,
        }
    }
}

/// A page of the changes of an owner.
#[derive(Debug)]
pub(crate) struct ChangePage {
    /// The point after which the changes come: the requested one or, without one, the beginning.
    pub(crate) since: SyncPoint,
    pub(crate) changes: Vec<Change>,
    /// The owner's last mutation when the page was read. A full page may end before it.
    pub(crate) last: i64,
}

/// The rows of the changes after a point.
struct ChangeRows {
    epoch: Epoch,
    since: SyncPoint,
    /// The owner's last mutation when the rows were read.
    last: i64,
    /// The last mutation with a deleted tombstone.
    forgotten: i64,
    tasks: Vec<TaskRow>,
    lists: Vec<ListRow>,
    tombstones: Vec<Tombstone>,
}

/// Returns at most `limit` changes after a point or, without one, from the beginning. From its purge time on, a task
/// counts as removed, even if it has not been purged yet.
///
/// # Errors
/// SYNC_TOKEN_EXPIRED, and those of the database.
pub(crate) async fn list_after(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    since: Option<SyncPoint>,
    limit: usize,
) -> Result<ChangePage, ApiError> {
    let found = db.read(ReadKind::Scan, move |conn| Box::pin(find_after(conn, owner, since, limit))).await?;
    let since = found.since.check(found.epoch, found.forgotten, found.last)?;
    let tasks = found.tasks.into_iter().map(|task| {
        let is_removed = task.purge_time.is_some_and(|purge_time| purge_time <= now);
        let tombstone = Tombstone { id: task.id, change: task.change, is_list: false };
        if is_removed { Change::Removed(tombstone) } else { Change::Task(Box::new(task)) }
    });
    let others = found.lists.into_iter().map(Change::List).chain(found.tombstones.into_iter().map(Change::Removed));
    let mut changes: Vec<_> = tasks.chain(others).collect();
    changes.sort_unstable_by_key(|change| (change.sequence(), change.id()));
    changes.truncate(limit);
    Ok(ChangePage { since, changes, last: found.last })
}

/// Reads one table after the other. Mutations between the reads are later than `last` and belong to the next page: a
/// task or list that they change is missing here, and is returned then. Tombstones may be deleted between the reads, so
/// `forgotten` is read last.
async fn find_after(conn: &mut Conn, owner: Uuid, since: Option<SyncPoint>, limit: usize) -> Result<ChangeRows, Error> {
    const LAST: &str = "
        select epoch, last_change from database_epoch left join owners on owner_id = $1 where id = 1";
    const LISTS: &str = "
        select owner_id, id, title, create_time, update_time, revision, change from task_lists
        where owner_id = $1 and (change, id) > ($2, $3) and change <= $4 order by change, id limit $5";
    const REMOVED: &str = "
        select id, change, is_list from removed_tasks
        where owner_id = $1 and (change, id) > ($2, $3) and change <= $4 and change > $6
        order by change, id limit $5";
    const FORGOTTEN: &str = "select forgotten from owners where owner_id = $1";
    let (epoch, last): (Uuid, Option<i64>) = conn.fetch_one(LAST, args![owner]).await?;
    let (epoch, last) = (Epoch::from(epoch), last.unwrap_or_default());
    // Lists that are not in the feed yet have the sequence number 0.
    let since = since.unwrap_or(SyncPoint { epoch, change: 0, id: Uuid::nil(), base: last });
    let (tasks, lists, tombstones) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = ChangeRows { epoch, since, last, forgotten: 0, tasks, lists, tombstones };
    // Most polls find no new mutation, and need not read more.
    if since.change < last || since.id < Uuid::max() {
        let table = tasks_with_texts(conn.engine());
        let tasks = format!(
            "select {TASK_COLUMNS} from {table}
            where owner_id = $1 and (change, id) > ($2, $3) and change <= $4 order by change, id limit $5"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = args![owner, since.change, since.id, last, limit];
        let (tasks, _) = QueryBuilder::new(tasks).build_with_cache(true);
        found.tasks = conn.fetch_all(tasks, values.clone()).await?;
        found.lists = conn.fetch_all(LISTS, values.clone()).await?;
        found.tombstones = conn.fetch_all(REMOVED, [values, args![since.base]].concat()).await?;
        found.forgotten = conn.fetch_optional(FORGOTTEN, args![owner]).await?.unwrap_or_default();
    }
    Ok(found)
}

/// Returns the last sequence number of each of these owners. Owners without a mutation are missing.
///
/// # Errors
/// Those of the database.
pub(crate) async fn last_sequences(db: &Db, owners: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
    let mut select = QueryBuilder::new("select owner_id, last_change from owners where owner_id in ");
    select.push_ids(owners.iter().copied());
    let (sql, values) = select.build();
    db.fetch_all(sql, values).await
}

/// Reports whether the account of an owner has been deleted. Its sequence numbers may then start again.
///
/// # Errors
/// Those of the database.
pub(crate) async fn is_removed(db: &Db, owner: Uuid) -> Result<bool, Error> {
    const SELECT: &str = "select owner_id from removed_owners where owner_id = $1";
    Ok(db.fetch_optional::<Uuid>(SELECT, args![owner]).await?.is_some())
}
