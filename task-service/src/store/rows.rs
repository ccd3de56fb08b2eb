//! The columns of tasks and lists. A new column of tasks is added here, to [`TaskRow`] and by a migration.

use std::sync::LazyLock;

use service_kit::db::{Column, Engine, Error, FromColumn, FromRow, QueryBuilder, Row, Sql, Value};

use crate::model::{
    Revision, TaskRow,
    field::Labels,
    fold::search_text,
    list::ListRow,
    mutation::{ChangedTask, Node, Relative},
};

/// Maximum number of ids in a statement: engines limit the number of arguments.
pub(super) const MAX_IDS: usize = 1000;

/// The columns of a [`TaskRow`], in the order in which they are read. SQLite has `notes` in another table, see
/// [`tasks_with_texts`].
pub(crate) const TASK_COLUMNS: &str = "owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, \
    due_at, time_zone, labels, rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change, \
    source_id, recurrence, reminders, next_reminder";

/// A column of tasks, and how to get its value.
type TaskColumn = (&'static str, fn(&TaskRow) -> Value);

/// The key of tasks.
const KEY_COLUMNS: [TaskColumn; 2] = [("owner_id", |task| task.owner_id.into()), ("id", |task| task.id.into())];

/// The other columns of tasks, except their long texts.
const COLUMNS: [TaskColumn; 22] = [
    ("list_id", |task| task.list_id.into()),
    ("parent_id", |task| task.parent_id.into()),
    ("title", |task| (&task.title).into()),
    ("priority", |task| i64::from(task.priority).into()),
    ("due_date", |task| task.due_date.clone().into()),
    ("due_time", |task| task.due_time.into()),
    ("due_at", |task| task.due_at.into()),
    ("time_zone", |task| (&task.time_zone).into()),
    ("labels", |task| (&task.labels).into()),
    ("label_keys", |task| Labels::keys(&task.labels).into()),
    ("rank", |task| (&task.rank).into()),
    ("create_time", |task| task.create_time.into()),
    ("update_time", |task| task.update_time.into()),
    ("complete_time", |task| task.complete_time.into()),
    ("delete_time", |task| task.delete_time.into()),
    ("purge_time", |task| task.purge_time.into()),
    ("revision", |task| task.revision.into()),
    ("change", |task| task.change.into()),
    ("source_id", |task| task.source_id.clone().into()),
    ("recurrence", |task| task.recurrence.clone().into()),
    ("reminders", |task| (&task.reminders).into()),
    ("next_reminder", |task| task.next_reminder.into()),
];

/// The long texts of a task.
const TEXT_COLUMNS: [TaskColumn; 2] =
    [("notes", |task| (&task.notes).into()), ("search", |task| search_text(&task.title, &task.notes).into())];

/// Returns the table that has the long texts. SQLite writes a row as a whole, so it has them in a table of their own.
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
            source_id: row.next_optional_text()?.map(Into::into),
            recurrence: row.next_optional_text()?.map(Into::into),
            reminders: row.next_text()?.into(),
            next_reminder: row.next()?,
        })
    }
}

/// A table with columns of tasks.
struct Table {
    name: &'static str,
    /// The columns besides the key.
    columns: Vec<TaskColumn>,
    /// The statement that inserts one task.
    insert_one: String,
}

impl Table {
    fn new(name: &'static str, columns: &[TaskColumn]) -> Self {
        let mut table = Self { name, columns: columns.to_vec(), insert_one: String::new() };
        let count = KEY_COLUMNS.len() + columns.len();
        let arguments: Vec<_> = (1..=count).map(|number| format!("${number}")).collect();
        table.insert_one = format!("{} values ({})", table.insert_into(), arguments.join(", "));
        table
    }

    fn all_columns(&self) -> impl Iterator<Item = &TaskColumn> {
        KEY_COLUMNS.iter().chain(&self.columns)
    }

    fn insert_into(&self) -> String {
        let names: Vec<_> = self.all_columns().map(|(name, _)| *name).collect();
        format!("insert into {} ({})", self.name, names.join(", "))
    }

    /// Returns the end of an insert that replaces all columns of existing rows that can change.
    fn overwrite(&self) -> String {
        let names = self.columns.iter().map(|(name, _)| *name).filter(|name| *name != "create_time");
        let assignments: Vec<_> = names.map(|name| format!("{name} = excluded.{name}")).collect();
        format!(" on conflict (owner_id, id) do update set {}", assignments.join(", "))
    }

    fn values(&self, task: &TaskRow) -> Vec<Value> {
        self.all_columns().map(|(_, value)| value(task)).collect()
    }

    /// Returns the statement that writes the columns that differ, if there are any. SQLite writes to each index whose
    /// columns a statement sets, even if their values stay the same.
    fn update(&self, before: &TaskRow, after: &TaskRow) -> Option<(Sql, Vec<Value>)> {
        let texts_differ = before.title != after.title || before.notes != after.notes;
        let mut update = QueryBuilder::new(format!("update {}", self.name));
        let mut separator = " set ";
        for (name, value) in &self.columns {
            // Folding texts takes longer than comparing them.
            let differs = match *name {
                "search" => texts_differ,
                "label_keys" => before.labels != after.labels,
                _ => value(before) != value(after),
            };
            if differs {
                update.push(separator).push(name).push(" = ").push_bind(value(after));
                separator = ", ";
            }
        }
        update.push(" where owner_id = ").push_bind(after.owner_id).push(" and id = ").push_bind(after.id);
        // Most requests change one of a few sets of columns.
        (separator == ", ").then(|| update.build_with_cache(true))
    }

    /// Returns the statement that inserts tasks or, if they are not new, replaces all columns that can change.
    fn store(&self, tasks: &[ChangedTask<'_>]) -> (Sql, Vec<Value>) {
        let mut insert = QueryBuilder::new(self.insert_into());
        insert.push_values(tasks.iter().map(|task| self.values(task.after)));
        if tasks.iter().any(|task| task.before.is_some()) {
            insert.push(self.overwrite());
        }
        // Most mutations write one row, so their statement is worth caching.
        insert.build_with_cache(tasks.len() == 1)
    }
}

/// Returns the tables that have the columns of tasks, first the one with their keys.
fn tables(engine: Engine) -> &'static [Table] {
    static SQLITE: LazyLock<[Table; 2]> =
        LazyLock::new(|| [Table::new("tasks", &COLUMNS), Table::new(text_table(Engine::Sqlite), &TEXT_COLUMNS)]);
    static POSTGRES: LazyLock<[Table; 1]> =
        LazyLock::new(|| [Table::new("tasks", &[&COLUMNS[..], &TEXT_COLUMNS].concat())]);
    match engine {
        Engine::Sqlite => &*SQLITE,
        Engine::Postgres => &*POSTGRES,
    }
}

/// Returns the statements that store tasks, which must all be new or all exist. Only the first one writes to `tasks`.
pub(crate) fn store_tasks(engine: Engine, tasks: &[ChangedTask<'_>]) -> Vec<(Sql, Vec<Value>)> {
    let statement = |table: &'static Table| match (engine, tasks) {
        (_, [ChangedTask { before: None, after }]) => Some((table.insert_one.as_str().into(), table.values(after))),
        (Engine::Sqlite, [ChangedTask { before: Some(before), after }]) => table.update(before, after),
        _ => Some(table.store(tasks)),
    };
    tables(engine).iter().filter_map(statement).collect()
}

/// Like [`store_tasks`], with an array for each column, so that the text does not depend on the number of tasks and the
/// statement can be cached. Only for `PostgreSQL`.
pub(crate) fn store_tasks_by_arrays(tasks: &[&TaskRow], overwrites: bool) -> (Sql, Vec<Value>) {
    let table = &tables(Engine::Postgres)[0];
    let mut insert = QueryBuilder::new(format!("{} select * from unnest(", table.insert_into()));
    let rows = tasks.iter().map(|task| table.values(task));
    for (index, array) in Value::arrays(rows.collect()).into_iter().enumerate() {
        insert.push(if index == 0 { "" } else { ", " }).push_bind(array);
    }
    insert.push(")");
    if overwrites {
        insert.push(table.overwrite());
    }
    insert.build_with_cache(true)
}

/// The columns of a [`Relative`], in the order in which they are read.
pub(crate) const RELATIVE_COLUMNS: [&str; 6] =
    ["id", "list_id", "parent_id", "complete_time", "delete_time", "purge_time"];

impl FromRow for Relative {
    /// Reads [`RELATIVE_COLUMNS`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let id = row.next()?;
        let node = Node {
            list_id: row.next()?,
            parent_id: row.next()?,
            complete_time: row.next()?,
            delete_time: row.next()?,
            purge_time: row.next()?,
        };
        Ok(Self { id, before: node, node, changes: 0 })
    }
}

impl FromRow for ListRow {
    /// Reads `owner_id, id, title, create_time, update_time, revision, change`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            title: row.next()?,
            create_time: row.next()?,
            update_time: row.next()?,
            revision: row.next()?,
            change: row.next()?,
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
