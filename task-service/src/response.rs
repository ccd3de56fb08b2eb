//! Converts rows to messages.

use taskey_proto::task::v1::{Task, TaskList, task::State};

use crate::model::{TaskRow, field::Labels, list::ListRow};

impl From<TaskRow> for Task {
    fn from(row: TaskRow) -> Self {
        let state = if row.complete_time.is_some() { State::Completed } else { State::Open };
        Self {
            id: row.id.to_string(),
            title: row.title,
            notes: row.notes,
            state: state.into(),
            priority: row.priority,
            due_date: row.due_date.unwrap_or_default(),
            due_time: row.due_time.map(Into::into),
            owner_id: row.owner_id.to_string(),
            create_time: Some(row.create_time.into()),
            update_time: Some(row.update_time.into()),
            complete_time: row.complete_time.map(Into::into),
            delete_time: row.delete_time.map(Into::into),
            purge_time: row.purge_time.map(Into::into),
            etag: row.revision.etag(),
            list_id: row.list_id.to_string(),
            parent_id: row.parent_id.map(|id| id.to_string()).unwrap_or_default(),
            time_zone: row.time_zone,
            labels: Labels::parse_stored(&row.labels),
            rank: row.rank,
        }
    }
}

impl From<ListRow> for TaskList {
    fn from(row: ListRow) -> Self {
        Self {
            is_default: row.is_default(),
            id: row.id.to_string(),
            title: row.title,
            owner_id: row.owner_id.to_string(),
            create_time: Some(row.create_time.into()),
            update_time: Some(row.update_time.into()),
            etag: row.revision.etag(),
        }
    }
}
