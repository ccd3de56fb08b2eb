//! Converts rows to messages.

use service_kit::epoch::Epoch;
use taskey_proto::task::v1::{Task, TaskList, task::State};

use crate::model::{TaskRow, field::Labels, list::ListRow};

/// Returns the task of a row, with an etag of this epoch.
pub(crate) fn task(row: TaskRow, epoch: Epoch) -> Task {
    let state = if row.complete_time.is_some() { State::Completed } else { State::Open };
    Task {
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
        etag: row.revision.etag(epoch),
        list_id: row.list_id.to_string(),
        parent_id: row.parent_id.map(|id| id.to_string()).unwrap_or_default(),
        time_zone: row.time_zone,
        labels: Labels::parse_stored(&row.labels),
        rank: row.rank,
    }
}

/// Returns the list of a row, with an etag of this epoch.
pub(crate) fn task_list(row: ListRow, epoch: Epoch) -> TaskList {
    TaskList {
        is_default: row.is_default(),
        id: row.id.to_string(),
        title: row.title,
        owner_id: row.owner_id.to_string(),
        create_time: Some(row.create_time.into()),
        update_time: Some(row.update_time.into()),
        etag: row.revision.etag(epoch),
    }
}
