//! Reads of tasks. A task whose purge time has come is missing, purged or not.

use std::sync::LazyLock;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Engine, QueryBuilder},
    status::ApiError,
};
use uuid::Uuid;

use super::rows::TASK_COLUMNS;
use crate::{
    error::task_not_found,
    model::{ListQuery, TaskRow, filter::Searched, order::Cursor},
};

/// Returns a task, live or deleted.
///
/// # Errors
/// TASK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<TaskRow, ApiError> {
    static SELECT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {TASK_COLUMNS} from tasks where owner_id = $1 and id = $2 and (purge_time is null or purge_time > $3)"
        )
    });
    db.fetch_optional(SELECT.as_str(), args![owner, id, now]).await?.ok_or_else(task_not_found)
}

/// Returns the tasks of a page that begins after a place in the order, and one more if there is a next page.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    query: &ListQuery,
    after: Option<Cursor>,
) -> Result<Vec<TaskRow>, ApiError> {
    let page = Page { engine: db.engine(), owner, now, query, after };
    // Plain lists are worth keeping; filters are as many as there are people.
    let (sql, values) = page.select().build_if_cached(query.filter.is_everything());
    Ok(db.fetch_all(sql, values).await?)
}

/// A page of a list.
struct Page<'a> {
    engine: Engine,
    owner: Uuid,
    now: Timestamp,
    query: &'a ListQuery,
    after: Option<Cursor>,
}

/// Tasks to look through.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// Those whose texts are in the index `tasks_sorted`,
    ShortTexts,
    /// and those whose texts are not.
    LongTexts,
}

impl Page<'_> {
    fn select(&self) -> QueryBuilder {
        let ListQuery { order, filter, .. } = self.query;
        let mut sql = QueryBuilder::new(format!("select {TASK_COLUMNS} from tasks where "));
        // SQLite has no such index.
        let is_covered =
            self.engine == Engine::Postgres && !filter.is_everything() && filter.is_covered() && order.is_covered();
        if order.is_indexed() && !is_covered {
            self.push(&mut sql, Part::All);
            return sql;
        }
        // Where many tasks must be looked through, only what they are sorted and filtered by is read first, for which
        // the index `tasks_sorted` is mostly enough, and then those of the page are looked up.
        sql.push("owner_id = ").push_bind(self.owner).push(" and id in (");
        if is_covered && filter.searches() {
            sql.push("(select id from tasks where ");
            self.push(&mut sql, Part::ShortTexts);
            sql.push(") union all (select id from tasks where ");
            self.push(&mut sql, Part::LongTexts);
            sql.push(")");
        } else {
            sql.push("select id from tasks where ");
            self.push(&mut sql, Part::All);
        }
        sql.push(")");
        self.push_end(&mut sql);
        sql
    }

    /// Appends which tasks are meant.
    fn push(&self, sql: &mut QueryBuilder, part: Part) {
        let ListQuery { order, filter, show_deleted, .. } = self.query;
        sql.push("owner_id = ").push_bind(self.owner);
        if *show_deleted {
            sql.push(" and (delete_time is null or purge_time > ").push_bind(self.now).push(") and ");
        } else {
            sql.push(" and delete_time is null and ");
        }
        let searched = match part {
            Part::All => Searched::Whole,
            Part::ShortTexts => {
                sql.push("brief is not null and ");
                Searched::Brief
            }
            Part::LongTexts => {
                sql.push("brief is null and ");
                Searched::Whole
            }
        };
        filter.push(sql, self.engine, self.now, searched);
        if let Some(place) = &self.after {
            sql.push(" and ");
            order.push_after(sql, self.engine, place);
        }
        self.push_end(sql);
    }

    /// Appends the order, and the limit: one more than the page has, which shows whether there is a next one.
    fn push_end(&self, sql: &mut QueryBuilder) {
        self.query.order.push_order(sql, self.engine);
        let limit = i64::try_from(self.query.page_size).unwrap_or(i64::MAX).saturating_add(1);
        sql.push(" limit ").push_bind(limit);
    }
}
