//! The columns of tasks and lists. A new column of tasks is added here, to [`TaskRow`] and by a migration.

use std::sync::LazyLock;

use service_kit::{
    args,
    db::{Column, Error, FromColumn, FromRow, Row, Value},
};

use crate::model::{Revision, TaskRow, filter::search_text, list::ListRow};

/// The columns of a [`TaskRow`], in the order in which they are read and written.
pub(crate) const TASK_COLUMNS: &str = "owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, \
    due_at, time_zone, labels, rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change";

const IMMUTABLE_COLUMNS: [&str; 3] = ["owner_id", "id", "create_time"];

impl FromRow for TaskRow {
    /// Reads [`TASK_COLUMNS`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            list_id: row.next()?,
            parent_id: row.next()?,
            title: row.next()?,
            notes: row.next()?,
            priority: i32::try_from(row.next::<i64>()?).map_err(|error| Error::Decode(format!("priority: {error}")))?,
            due_date: row.next()?,
            due_time: row.next()?,
            due_at: row.next()?,
            time_zone: row.next()?,
            labels: row.next()?,
            rank: row.next()?,
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
pub(crate) fn task_values(task: &TaskRow) -> Vec<Value> {
    args![
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
    ]
}

/// The `on conflict` clause that replaces all columns of an existing task, except immutable ones.
pub(crate) static OVERWRITE: LazyLock<String> = LazyLock::new(|| {
    let columns = TASK_COLUMNS.split(", ").chain(["search"]).filter(|column| !IMMUTABLE_COLUMNS.contains(column));
    let assignments: Vec<_> = columns.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(" on conflict (owner_id, id) do update set {}", assignments.join(", "))
});

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
