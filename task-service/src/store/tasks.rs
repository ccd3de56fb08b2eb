//! Reads of tasks. From its purge time on, a task is missing, even if it has not been purged yet.

use std::sync::LazyLock;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Engine, QueryBuilder, Searches},
    status::ApiError,
};
use uuid::Uuid;

use super::rows::{TASK_COLUMNS, tasks_with_texts};
use crate::{
    error::task_not_found,
    model::{
        ListQuery, TaskRow,
        filter::{SearchColumn, is_covered_by_index, push_filter, reads_long_texts, searches_text},
        order::Cursor,
    },
};

/// Returns a task, active or deleted.
///
/// # Errors
/// TASK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, now: Timestamp, id: Uuid) -> Result<TaskRow, ApiError> {
    static SQLITE: LazyLock<String> = LazyLock::new(|| select_one(Engine::Sqlite));
    static POSTGRES: LazyLock<String> = LazyLock::new(|| select_one(Engine::Postgres));
    let select = match db.engine() {
        Engine::Sqlite => &SQLITE,
        Engine::Postgres => &POSTGRES,
    };
    db.fetch_optional(select.as_str(), args![owner, id, now]).await?.ok_or_else(task_not_found)
}

fn select_one(engine: Engine) -> String {
    let table = tasks_with_texts(engine);
    format!(
        "select {TASK_COLUMNS} from {table} where owner_id = $1 and id = $2 and (purge_time is null or purge_time > $3)"
    )
}

/// Returns the tasks of a page that begins after a cursor, and one more if there is a next page.
///
/// # Errors
/// FILTER_TOO_EXPENSIVE, OVERLOADED, and those of the database.
pub(crate) async fn list(
    db: &Db,
    searches: &Searches,
    owner: Uuid,
    now: Timestamp,
    query: &ListQuery,
    after: Option<Cursor>,
) -> Result<Vec<TaskRow>, ApiError> {
    let page = Page { engine: db.engine(), owner, now, query, after };
    // Statements with a filter are too varied to be cached.
    let (sql, values) = page.select().build_with_cache(query.filter.is_empty());
    Ok(if query.is_search() {
        searches.fetch_all(owner, (sql, values)).await?
    } else {
        db.fetch_all(sql, values).await?
    })
}

/// A page of `ListTasks`.
struct Page<'a> {
    engine: Engine,
    owner: Uuid,
    now: Timestamp,
    query: &'a ListQuery,
    after: Option<Cursor>,
}

/// The tasks that a query or a subquery reads.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// The tasks whose texts are short enough for the index `tasks_sorted`.
    ShortTexts,
    /// All other tasks.
    LongTexts,
}

impl Page<'_> {
    fn select(&self) -> QueryBuilder {
        let ListQuery { order, filter, .. } = self.query;
        let mut sql = QueryBuilder::new(format!("select {TASK_COLUMNS} from {} where ", tasks_with_texts(self.engine)));
        // SQLite has no index `tasks_sorted`.
        let is_covered =
            self.engine == Engine::Postgres && !filter.is_empty() && is_covered_by_index(filter) && order.is_covered();
        if order.is_indexed() && !is_covered {
            self.push_part(&mut sql, Part::All);
            return sql;
        }
        // Where many tasks must be read, a subquery finds the ids of the page first. It reads only the columns of the
        // order and the filter, usually from the index `tasks_sorted` alone.
        sql.push("owner_id = ").push_bind(self.owner).push(" and id in (");
        if is_covered && searches_text(filter) {
            sql.push("(select id from tasks where ");
            self.push_part(&mut sql, Part::ShortTexts);
            sql.push(") union all (select id from tasks where ");
            self.push_part(&mut sql, Part::LongTexts);
            sql.push(")");
        } else {
            let table = if reads_long_texts(filter) { tasks_with_texts(self.engine) } else { "tasks" };
            sql.push(format_args!("select id from {table} where "));
            self.push_part(&mut sql, Part::All);
        }
        sql.push(")");
        self.push_order_and_limit(&mut sql);
        sql
    }

    /// Appends the conditions on the tasks, the order and the limit.
    fn push_part(&self, sql: &mut QueryBuilder, part: Part) {
        let ListQuery { order, filter, show_deleted, .. } = self.query;
        sql.push("owner_id = ").push_bind(self.owner);
        if *show_deleted {
            sql.push(" and (delete_time is null or purge_time > ").push_bind(self.now).push(") and ");
        } else {
            sql.push(" and delete_time is null and ");
        }
        let search_column = match part {
            Part::All => SearchColumn::Full,
            Part::ShortTexts => {
                sql.push("brief is not null and ");
                SearchColumn::Short
            }
            Part::LongTexts => {
                sql.push("brief is null and ");
                SearchColumn::Full
            }
        };
        push_filter(sql, filter, self.engine, self.now, search_column);
        if let Some(cursor) = &self.after {
            sql.push(" and ");
            order.push_after(sql, self.engine, cursor);
        }
        self.push_order_and_limit(sql);
    }

    /// Appends the order, and the limit: one more than the page size, which shows whether there is a next page.
    fn push_order_and_limit(&self, sql: &mut QueryBuilder) {
        self.query.order.push_order(sql, self.engine);
        let limit = i64::try_from(self.query.page_size).unwrap_or(i64::MAX).saturating_add(1);
        sql.push(" limit ").push_bind(limit);
    }
}
