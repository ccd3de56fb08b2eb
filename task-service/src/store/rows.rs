//! How tasks and lists stand in their tables.

use service_kit::db::{Column, Error, FromColumn, FromRow, Row, Value};

use crate::model::{Revision, TaskRow, list::ListRow};

/// The columns of a [`TaskRow`], in the order in which they are read.
pub(crate) const TASK_COLUMNS: &str = "owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, \
    due_at, time_zone, labels, rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change";

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
