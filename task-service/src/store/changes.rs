//! The changes of an owner's tasks, in the order of the acts.

use service_kit::{clock::Timestamp, db::Db, db_read, status::Refusal};
use sqlx::{QueryBuilder, query_scalar};
use uuid::Uuid;

use super::with_columns;
use crate::model::{TaskRow, sync::SyncPoint};

/// What has become of a task.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is like this now.
    Is(Box<TaskRow>),
    /// It is gone for good.
    Removed(Removed),
}

/// A task that is gone for good.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(crate) struct Removed {
    pub(crate) id: Uuid,
    pub(crate) change: i64,
}

impl Change {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Is(task) => task.id,
            Self::Removed(removed) => removed.id,
        }
    }

    /// The act that it comes from.
    pub(crate) fn act(&self) -> i64 {
        match self {
            Self::Is(task) => task.change,
            Self::Removed(removed) => removed.change,
        }
    }
}

/// Some changes of an owner.
#[derive(Debug)]
pub(crate) struct Changes {
    /// After which point they come: the one that was asked for or, without one, the very beginning.
    pub(crate) since: SyncPoint,
    pub(crate) told: Vec<Change>,
    /// The last act that they take into account.
    pub(crate) last: i64,
}

/// The changes after a point, not more than `limit`; without a point, all tasks. A task whose purge time has come is
/// gone, purged or not.
///
/// What happens between the reads belongs to later acts than the last that is taken into account, and is told the next
/// time: a task that has changed since is missing here, and comes then. What was removed may be forgotten meanwhile; so
/// it is asked last how far that goes.
///
/// # Errors
/// SYNC_TOKEN_EXPIRED, and those of the database.
pub(crate) async fn after(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    since: Option<SyncPoint>,
    limit: usize,
) -> Result<Changes, Refusal> {
    const LAST: &str = "select last_change from owners where owner_id = $1";
    const FORGOTTEN: &str = "select forgotten from owners where owner_id = $1";
    const REMOVED: &str = "select id, change from removed_tasks where owner_id = ";
    let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX);
    let (last, forgotten, since, tasks, removed) = db_read!(db, |connection| {
        let last: Option<i64> = query_scalar(LAST).bind(owner).fetch_optional(&mut *connection).await?;
        let last = last.unwrap_or_default();
        let since = since.unwrap_or(SyncPoint { change: 0, id: Uuid::max(), base: last });
        let mut forgotten = 0;
        let mut tasks: Vec<TaskRow> = Vec::new();
        let mut removed: Vec<Removed> = Vec::new();
        // There is nothing to read where nothing has happened, as most of those find who poll.
        if since.change < last || since.id < Uuid::max() {
            for is_removed in [false, true] {
                let start = if is_removed { REMOVED } else { with_columns!("select", "from tasks where owner_id = ") };
                let mut statement = QueryBuilder::new(start);
                statement.push_bind(owner).push(" and (change, id) > (").push_bind(since.change).push(", ");
                statement.push_bind(since.id).push(") and change <= ").push_bind(last);
                if is_removed {
                    statement.push(" and change > ").push_bind(since.base);
                }
                statement.push(" order by change, id limit ").push_bind(limit_sql);
                if is_removed {
                    removed = statement.build_query_as().fetch_all(&mut *connection).await?;
                } else {
                    tasks = statement.build_query_as().fetch_all(&mut *connection).await?;
                }
            }
            let known: Option<i64> = query_scalar(FORGOTTEN).bind(owner).fetch_optional(&mut *connection).await?;
            forgotten = known.unwrap_or_default();
        }
        Ok((last, forgotten, since, tasks, removed))
    })?;
    let since = since.check(forgotten, last)?;
    let is = tasks.into_iter().map(|task| {
        let is_due = task.purge_time.is_some_and(|purge_time| purge_time <= now);
        let gone = Removed { id: task.id, change: task.change };
        if is_due { Change::Removed(gone) } else { Change::Is(Box::new(task)) }
    });
    let mut told: Vec<_> = is.chain(removed.into_iter().map(Change::Removed)).collect();
    told.sort_unstable_by_key(|change| (change.act(), change.id()));
    told.truncate(limit);
    Ok(Changes { since, told, last })
}

/// How far the acts of owners go, of those who have done something.
///
/// # Errors
/// Those of the database.
pub(crate) async fn reaches(db: &Db, owners: &[Uuid]) -> Result<Vec<(Uuid, i64)>, service_kit::db::Error> {
    let owners = owners.to_vec();
    db_read!(db, |connection| {
        let mut statement = QueryBuilder::new("select owner_id, last_change from owners where owner_id in (");
        let mut list = statement.separated(", ");
        list.push_bind(Uuid::nil());
        for owner in owners {
            list.push_bind(owner);
        }
        statement.push(")").build_query_as().persistent(false).fetch_all(connection).await
    })
}
