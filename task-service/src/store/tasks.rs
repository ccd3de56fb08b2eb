//! Reads of tasks. A task whose purge time has come is missing, purged or not.

use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_look_up, db_read,
    status::Refusal,
};
use sqlx::{QueryBuilder, query_as};
use uuid::Uuid;

use super::with_columns;
use crate::{
    error::task_not_found,
    model::{ListQuery, TaskRow, order::Place},
};

/// Finds a task, live or deleted.
///
/// # Errors
/// TASK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<TaskRow, Refusal> {
    find(db, owner, now, id).await?.ok_or_else(task_not_found)
}

async fn find(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<Option<TaskRow>, db::Error> {
    const SELECT: &str = with_columns!(
        "select",
        "from tasks where owner_id = $1 and id = $2 and (purge_time is null or purge_time > $3)"
    );
    db_look_up!(db, |connection| query_as(SELECT).bind(owner).bind(id).bind(now).fetch_optional(connection).await)
}

/// Finds the tasks of a page that begins after a place in the order, and one more if there is a next page.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    query: &ListQuery,
    after: Option<Place>,
) -> Result<Vec<TaskRow>, Refusal> {
    let limit = i64::try_from(query.page_size).unwrap_or(i64::MAX).saturating_add(1);
    let query = query.clone();
    let rows = db_read!(db, |connection| {
        let mut statement = QueryBuilder::new(with_columns!("select", "from tasks where owner_id = "));
        statement.push_bind(owner).push(" and ");
        // Where all tasks must be sorted, only what they are sorted by is read first, for which the index `tasks_sorted` of
        // PostgreSQL is mostly enough, and then those of the page are looked up.
        let in_two_steps = !query.order.is_indexed();
        if in_two_steps {
            statement.push("id in (select id from tasks where owner_id = ").push_bind(owner).push(" and ");
        }
        if query.show_deleted {
            statement.push("(delete_time is null or purge_time > ").push_bind(now).push(") and ");
        } else {
            statement.push("delete_time is null and ");
        }
        query.filter.push(&mut statement, now);
        if let Some(place) = &after {
            statement.push(" and ");
            query.order.push_after(&mut statement, place);
        }
        query.order.push_order(&mut statement);
        statement.push(" limit ").push_bind(limit);
        if in_two_steps {
            statement.push(")");
            query.order.push_order(&mut statement);
        }
        // Plain lists are worth being remembered; filters are as many as there are people.
        let statement = statement.build_query_as().persistent(query.filter.is_everything());
        statement.fetch_all(connection).await
    })?;
    Ok(rows)
}
