//! The columns of tasks and lists. A new column of tasks is added here, to [`TaskRow`] and by a migration.

use service_kit::{
    args,
    db::{Column, Engine, Error, FromColumn, FromRow, QueryBuilder, Row, Sql, Value},
};

use crate::model::{
    Revision, TaskRow,
    filter::search_text,
    list::ListRow,
    mutation::{Node, Relative},
};

/// The columns of a [`TaskRow`], in the order in which they are read. SQLite has `notes` in another table, see
/// [`tasks_with_texts`].
pub(crate) const TASK_COLUMNS: &str = "owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, \
    due_at, time_zone, labels, rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change";

const IMMUTABLE_COLUMNS: [&str; 3] = ["owner_id", "id", "create_time"];

/// The long texts of a task.
const TEXT_COLUMNS: [&str; 2] = ["notes", "search"];

/// Returns the table that has [`TEXT_COLUMNS`]. SQLite writes a row as a whole, so it has them in a table of their own.
pub(crate) fn text_table(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "task_texts",
        Engine::Postgres => "tasks",
    }
}

/// Returns the table or the join that has all columns of tasks. The join reads the tasks first, in the order of an index
/// on them.
pub(crate) fn tasks_with_texts(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "tasks cross join task_texts using (owner_id, id)",
        Engine::Postgres => "tasks",
    }
}

impl FromRow for TaskRow {
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Self::read(row)
    }
}

impl<T> TaskRow<T> {
    /// Reads [`TASK_COLUMNS`].
    ///
    /// # Errors
    /// [`Error::Decode`] if a column is missing or is of another type.
    pub(crate) fn read<'r>(row: &mut Row<'r>) -> Result<Self, Error>
    where
        T: From<&'r str>,
    {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            list_id: row.next()?,
            parent_id: row.next()?,
            title: row.next_text()?.into(),
            notes: row.next_text()?.into(),
            priority: i32::try_from(row.next::<i64>()?).map_err(|error| Error::Decode(format!("priority: {error}")))?,
            due_date: row.next_optional_text()?.map(Into::into),
            due_time: row.next()?,
            due_at: row.next()?,
            time_zone: row.next_text()?.into(),
            labels: row.next_text()?.into(),
            rank: row.next_text()?.into(),
            create_time: row.next()?,
            update_time: row.next()?,
            complete_time: row.next()?,
            delete_time: row.next()?,
            purge_time: row.next()?,
            revision: row.next()?,
            change: row.next()?,
        })
    }
}

/// Returns the values of [`TASK_COLUMNS`], and of `search`.
fn task_values(task: &TaskRow) -> Vec<(&'static str, Value)> {
    let values = args![
        task.owner_id,
        task.id,
        task.list_id,
        task.parent_id,
        &task.title,
        &task.notes,
        i64::from(task.priority),
        task.due_date.clone(),
        task.due_time,
        task.due_at,
        &task.time_zone,
        &task.labels,
        &task.rank,
        task.create_time,
        task.update_time,
        task.complete_time,
        task.delete_time,
        task.purge_time,
        task.revision,
        task.change,
        search_text(&task.title, &task.notes),
    ];
    TASK_COLUMNS.split(", ").chain(["search"]).zip(values).collect()
}

/// Returns the statement that inserts tasks or, if `overwrites`, replaces all columns of existing ones, except immutable
/// ones; and the statement for their texts, if these are in another table. There must be at least one task.
pub(crate) fn store_tasks(
    engine: Engine,
    tasks: &[&TaskRow],
    overwrites: bool,
) -> (QueryBuilder, Option<QueryBuilder>) {
    let is_text = |column: &str| TEXT_COLUMNS.contains(&column);
    let is_key = |column: &str| ["owner_id", "id"].contains(&column);
    match engine {
        Engine::Sqlite => (
            store_columns("tasks", tasks, overwrites, |column| !is_text(column)),
            Some(store_columns("task_texts", tasks, overwrites, |column| is_text(column) || is_key(column))),
        ),
        Engine::Postgres => (store_columns("tasks", tasks, overwrites, |_| true), None),
    }
}

fn store_columns(table: &str, tasks: &[&TaskRow], overwrites: bool, has: impl Fn(&str) -> bool) -> QueryBuilder {
    let columns: Vec<_> = TASK_COLUMNS.split(", ").chain(["search"]).filter(|column| has(column)).collect();
    let rows = tasks.iter().map(|task| {
        let values = task_values(task).into_iter().filter(|(column, _)| has(column));
        values.map(|(_, value)| value).collect()
    });
    let mut insert = QueryBuilder::new(format!("insert into {table} ({})", columns.join(", ")));
    insert.push_values(rows);
    if overwrites {
        insert.push(overwrite(&columns));
    }
    insert
}

/// Returns the end of an insert that replaces the mutable ones of these columns in existing rows.
fn overwrite(columns: &[&str]) -> String {
    let columns = columns.iter().filter(|column| !IMMUTABLE_COLUMNS.contains(column));
    let assignments: Vec<_> = columns.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(" on conflict (owner_id, id) do update set {}", assignments.join(", "))
}

/// Like [`store_tasks`], with an array for each column, so that the text does not depend on the number of tasks and the
/// statement can be cached. Only for `PostgreSQL`.
pub(crate) fn store_tasks_by_arrays(tasks: &[&TaskRow], overwrites: bool) -> (Sql, Vec<Value>) {
    let columns: Vec<_> = TASK_COLUMNS.split(", ").chain(["search"]).collect();
    let mut insert = QueryBuilder::new(format!("insert into tasks ({}) select * from unnest(", columns.join(", ")));
    let rows = tasks.iter().map(|task| task_values(task).into_iter().map(|(_, value)| value).collect());
    for (index, array) in Value::arrays(rows.collect()).into_iter().enumerate() {
        insert.push(if index == 0 { "" } else { ", " }).push_bind(array);
    }
    insert.push(")");
    if overwrites {
        insert.push(overwrite(&columns));
    }
    insert.build_with_cache(true)
}

/// The columns of a [`Relative`], in the order in which they are read.
pub(crate) const RELATIVE_COLUMNS: [&str; 5] = ["id", "list_id", "parent_id", "delete_time", "purge_time"];

impl FromRow for Relative {
    /// Reads [`RELATIVE_COLUMNS`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let id = row.next()?;
        let node =
            Node { list_id: row.next()?, parent_id: row.next()?, delete_time: row.next()?, purge_time: row.next()? };
        Ok(Self { id, node, changes: 0 })
    }
}

impl FromRow for ListRow {
    /// Reads `owner_id, id, title, create_time, update_time, revision`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            title: row.next()?,
            create_time: row.next()?,
            update_time: row.next()?,
            revision: row.next()?,
        })
    }
}

impl FromColumn for Revision {
    fn from_column(column: Column<'_>) -> Result<Self, Error> {
        i64::from_column(column).map(Self)
    }
}

impl From<Revision> for Value {
    fn from(revision: Revision) -> Self {
        revision.0.into()
    }
}
