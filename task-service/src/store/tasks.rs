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
    model::{
        ListQuery, TaskRow,
        filter::{Engine, Searched, Value},
        order::Place,
    },
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
    let page = Page { owner, now, query: query.clone(), after };
    let rows = db_read!(db, |connection| {
        // Plain lists are worth being remembered; filters are as many as there are people.
        let persistent = page.query.filter.is_everything();
        page.select().build_query_as().persistent(persistent).fetch_all(connection).await
    })?;
    Ok(rows)
}

/// A page that is asked for.
struct Page {
    owner: Uuid,
    now: Timestamp,
    query: ListQuery,
    after: Option<Place>,
}

/// Tasks to look through.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// Those whose texts are in the index, and those whose texts are not.
    Brief,
    Long,
}

impl Page {
    fn select<E: Engine>(&self) -> QueryBuilder<E> {
        let ListQuery { order, filter, .. } = &self.query;
        let mut sql = QueryBuilder::new(with_columns!("select", "from tasks where "));
        let covered = E::COVERS && !filter.is_everything() && filter.is_covered() && order.is_covered();
        if order.is_indexed() && !covered {
            self.push(&mut sql, Part::All);
            return sql;
        }
        // Where many tasks must be looked through, only what they are sorted and filtered by is read first, for which the
        // index `tasks_sorted` is mostly enough, and then those of the page are looked up.
        sql.push("owner_id = ");
        E::bind(&mut sql, Value::Id(self.owner));
        sql.push(" and id in (");
        if covered && filter.searches() {
            sql.push("(select id from tasks where ");
            self.push(&mut sql, Part::Brief);
            sql.push(") union all (select id from tasks where ");
            self.push(&mut sql, Part::Long);
            sql.push(")");
        } else {
            sql.push("select id from tasks where ");
            self.push(&mut sql, Part::All);
        }
        sql.push(")");
        self.push_end(&mut sql);
        sql
    }

    /// Adds which tasks are meant.
    fn push<E: Engine>(&self, sql: &mut QueryBuilder<E>, part: Part) {
        let ListQuery { order, filter, show_deleted, .. } = &self.query;
        sql.push("owner_id = ");
        E::bind(sql, Value::Id(self.owner));
        if *show_deleted {
            sql.push(" and (delete_time is null or purge_time > ");
            E::bind(sql, Value::Int(self.now.as_micros()));
            sql.push(") and ");
        } else {
            sql.push(" and delete_time is null and ");
        }
        let searched = match part {
            Part::All => Searched::Whole,
            Part::Brief => {
                sql.push("brief is not null and ");
                Searched::Brief
            }
            Part::Long => {
                sql.push("brief is null and ");
                Searched::Whole
            }
        };
        filter.push(sql, self.now, searched);
        if let Some(place) = &self.after {
            sql.push(" and ");
            order.push_after(sql, place);
        }
        self.push_end(sql);
    }

    /// Adds the order, and how many are meant: one more than the page has, which tells whether there is a next one.
    fn push_end<E: Engine>(&self, sql: &mut QueryBuilder<E>) {
        self.query.order.push_order(sql);
        sql.push(" limit ");
        let limit = i64::try_from(self.query.page_size).unwrap_or(i64::MAX).saturating_add(1);
        E::bind(sql, Value::Int(limit));
    }
}
