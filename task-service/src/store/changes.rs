//! The changes of an owner's tasks, in the order of the mutations.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, QueryBuilder, ReadKind, Row},
    status::ApiError,
};
use uuid::Uuid;

use super::rows::TASK_COLUMNS;
use crate::model::{TaskRow, sync::SyncPoint};

/// What has become of a task.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is like this now.
    Is(Box<TaskRow>),
    /// It is gone for good.
    Removed(RemovedTask),
}

/// A task that is gone for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemovedTask {
    pub(crate) id: Uuid,
    pub(crate) change: i64,
}

impl FromRow for RemovedTask {
    /// Reads `id, change`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { id: row.next()?, change: row.next()? })
    }
}

impl Change {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Is(task) => task.id,
            Self::Removed(removed) => removed.id,
        }
    }

    /// The sequence number of the mutation that it comes from.
    pub(crate) fn sequence(&self) -> i64 {
        match self {
            Self::Is(task) => task.change,
            Self::Removed(removed) => removed.change,
        }
    }
}

/// A page of the changes of an owner.
#[derive(Debug)]
pub(crate) struct ChangePage {
    /// After which point they come: the one that was asked for or, without one, the very beginning.
    pub(crate) since: SyncPoint,
    pub(crate) changes: Vec<Change>,
    /// The last mutation that they take into account.
    pub(crate) last: i64,
}

/// What the tables hold of the changes after a point.
struct Found {
    since: SyncPoint,
    last: i64,
    /// The last mutation that removed a task which is forgotten by now.
    forgotten: i64,
    tasks: Vec<TaskRow>,
    removed: Vec<RemovedTask>,
}

/// Returns the changes after a point, at most `limit`; without a point, all tasks. A task whose purge time has come is
/// gone, purged or not.
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
    let since = found.since.check(found.forgotten, found.last)?;
    let tasks = found.tasks.into_iter().map(|task| {
        let is_due = task.purge_time.is_some_and(|purge_time| purge_time <= now);
        let gone = RemovedTask { id: task.id, change: task.change };
        if is_due { Change::Removed(gone) } else { Change::Is(Box::new(task)) }
    });
    let mut changes: Vec<_> = tasks.chain(found.removed.into_iter().map(Change::Removed)).collect();
    changes.sort_unstable_by_key(|change| (change.sequence(), change.id()));
    changes.truncate(limit);
    Ok(ChangePage { since, changes, last: found.last })
}

/// Reads one table after the other. What happens between the reads belongs to later mutations than the last that is taken
/// into account, and is returned the next time: a task that has changed since is missing here, and comes then. What was
/// removed may be forgotten meanwhile; so how far that goes is read last.
async fn find_after(conn: &mut Conn, owner: Uuid, since: Option<SyncPoint>, limit: usize) -> Result<Found, Error> {
    const LAST: &str = "select last_change from owners where owner_id = $1";
    const REMOVED: &str = "
        select id, change from removed_tasks
        where owner_id = $1 and (change, id) > ($2, $3) and change <= $4 and change > $6
        order by change, id limit $5";
    const FORGOTTEN: &str = "select forgotten from owners where owner_id = $1";
    let last: i64 = conn.fetch_optional(LAST, args![owner]).await?.unwrap_or_default();
    let since = since.unwrap_or(SyncPoint { change: 0, id: Uuid::max(), base: last });
    let mut found = Found { since, last, forgotten: 0, tasks: Vec::new(), removed: Vec::new() };
    // There is nothing to read where nothing has happened, which is what most polls find.
    if since.change < last || since.id < Uuid::max() {
        let tasks = format!(
            "select {TASK_COLUMNS} from tasks
            where owner_id = $1 and (change, id) > ($2, $3) and change <= $4 order by change, id limit $5"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = args![owner, since.change, since.id, last, limit];
        let (tasks, _) = QueryBuilder::new(tasks).build_if_cached(true);
        found.tasks = conn.fetch_all(tasks, values.clone()).await?;
        found.removed = conn.fetch_all(REMOVED, [values, args![since.base]].concat()).await?;
        found.forgotten = conn.fetch_optional(FORGOTTEN, args![owner]).await?.unwrap_or_default();
    }
    Ok(found)
}

/// Returns the last sequence number of each of these owners who has written anything.
///
/// # Errors
/// Those of the database.
pub(crate) async fn last_sequences(db: &Db, owners: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
    let mut select = QueryBuilder::new("select owner_id, last_change from owners where owner_id in ");
    select.push_ids(owners.iter().copied());
    let (sql, values) = select.build();
    db.fetch_all(sql, values).await
}
