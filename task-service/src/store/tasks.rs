//! Reads of tasks. From its purge time on, a task is missing, even if it has not been purged yet.

use std::{ops::ControlFlow, sync::LazyLock};

use service_kit::{
    args,
    clock::Timestamp,
    db::{self, Db, Engine, QueryBuilder, ReadKind, Row, Searches, Value},
    page,
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
    page::PageEncoder,
};

/// Pages that are not larger are read like a single task.
const MAX_SHORT_PAGE: usize = page::DEFAULT_SIZE;

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

/// Adds the tasks after a cursor to a page, until it is full.
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
    page: PageEncoder,
) -> Result<PageEncoder, ApiError> {
    if query.is_search() {
        let search = Search { engine: db.engine(), owner, now, query, after };
        // Statements with a filter are too varied to be cached.
        let select = search.select().build_with_cache(query.filter.is_empty());
        return Ok(searches.fold(owner, select, page, push_row).await?);
    }
    let (select, args) = select_newest(db.engine(), owner, now, query, after.as_ref().map(Cursor::id));
    Ok(if query.page_size <= MAX_SHORT_PAGE {
        db.read_short(move |conn| Box::pin(conn.fold(select, args, page, push_row))).await?
    } else {
        db.read(ReadKind::Scan, move |conn| Box::pin(conn.fold(select, args, page, push_row))).await?
    })
}

fn push_row(page: &mut PageEncoder, row: &mut Row<'_>) -> Result<ControlFlow<()>, db::Error> {
    Ok(page.push(&TaskRow::read(row)?))
}

/// Returns the statement for a page in the default order, without a filter. Its text is built only once.
fn select_newest(
    engine: Engine,
    owner: Uuid,
    now: Timestamp,
    query: &ListQuery,
    after: Option<Uuid>,
) -> (&'static str, Vec<Value>) {
    /// The statements for the first page and for later pages.
    fn texts(engine: Engine) -> [String; 2] {
        ["", "and id < $5"].map(|is_after| {
            format!(
                "select {TASK_COLUMNS} from {} where owner_id = $1 and (delete_time is null or $2 and purge_time > $3)
                {is_after} order by id desc limit $4",
                tasks_with_texts(engine)
            )
        })
    }
    static SQLITE: LazyLock<[String; 2]> = LazyLock::new(|| texts(Engine::Sqlite));
    static POSTGRES: LazyLock<[String; 2]> = LazyLock::new(|| texts(Engine::Postgres));
    let [first, later] = match engine {
        Engine::Sqlite => &*SQLITE,
        Engine::Postgres => &*POSTGRES,
    };
    let mut args = args![owner, query.show_deleted, now, limit(query)];
    match after {
        None => (first, args),
        Some(after) => {
            args.push(after.into());
            (later, args)
        }
    }
}

/// Returns the number of rows to read: one more than the page size, which shows whether there is a next page.
fn limit(query: &ListQuery) -> i64 {
    i64::try_from(query.page_size).unwrap_or(i64::MAX).saturating_add(1)
}

/// A page of `ListTasks` that may have a filter or an order.
struct Search<'a> {
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

impl Search<'_> {
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

    fn push_order_and_limit(&self, sql: &mut QueryBuilder) {
        self.query.order.push_order(sql, self.engine);
        sql.push(" limit ").push_bind(limit(self.query));
    }
}
