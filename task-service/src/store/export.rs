//! The reads of exports: lists by id, and the tasks of a list by rank.

use service_kit::{
    args,
    db::{Db, Error, QueryBuilder, ReadKind},
};
use uuid::Uuid;

use super::rows::{TASK_COLUMNS, tasks_with_texts};
use crate::model::{TaskRow, list::ListRow};

/// Returns at most `limit` lists in the order of their ids, except the default list, starting after the list `after` if
/// it is set.
///
/// # Errors
/// Those of the database.
pub(crate) async fn lists_after(
    db: &Db,
    owner: Uuid,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<ListRow>, Error> {
    const LISTS: &str = "
        select owner_id, id, title, create_time, update_time, revision, change from task_lists
        where owner_id = $1 and id <> $1 and ($2 is null or id > $2) order by id limit $3";
    db.fetch_all(LISTS, args![owner, after, i64::try_from(limit).unwrap_or(i64::MAX)]).await
}

/// Returns at most `limit` active tasks of a list in the order of their ranks, starting after this rank and id.
///
/// # Errors
/// Those of the database.
pub(crate) async fn tasks_after(
    db: &Db,
    owner: Uuid,
    list: Uuid,
    after: (String, Uuid),
    limit: usize,
) -> Result<Vec<TaskRow>, Error> {
    let select = format!(
        "select {TASK_COLUMNS} from {} where owner_id = $1 and list_id = $2 and delete_time is null
            and (rank, id) > ($3, $4) order by rank, id limit $5",
        tasks_with_texts(db.engine())
    );
    let (select, _) = QueryBuilder::new(select).build_with_cache(true);
    let (rank, id) = after;
    let values = args![owner, list, rank, id, i64::try_from(limit).unwrap_or(i64::MAX)];
    db.read(ReadKind::Scan, move |conn| Box::pin(async move { conn.fetch_all(select, values).await })).await
}
