//! Creates tasks.

use uuid::Uuid;

use super::{MutationContext, WorkingSet, error::WriteError, occurrences};
use crate::{
    error::task_id_taken,
    model::{
        Revision, TaskRow,
        due::due_at,
        rank,
        reminder::{self, reschedule},
        write::{Imported, NewTask},
    },
};

impl WorkingSet {
    pub(super) fn create(&mut self, index: usize, task: NewTask, new_id: Uuid) -> Result<Uuid, WriteError> {
        let MutationContext { owner, now, sequence, .. } = self.context;
        let id = task.id.unwrap_or(new_id);
        if self.taken.contains(&id) || self.is_created(id) {
            let field = ("task_id", "is the id of another task or list of the caller");
            return Err(WriteError::Other(task_id_taken(), Some(field)));
        }
        let imported = task.imported.as_deref();
        let source_id = imported.and_then(|imported| imported.source_id.clone());
        if source_id.as_ref().is_some_and(|source_id| self.taken_sources.contains(source_id)) {
            let field = ("task.source_id", "is the source id of another task of the caller");
            return Err(WriteError::Other(task_id_taken(), Some(field)));
        }
        let scope = self.scope_for(task.list_id, task.parent_id, ["task.list_id", "task.parent_id"])?;
        let due_date = task.due_date.map(|date| date.to_string());
        // Two rows of one mutation may have the same one.
        self.taken_sources.extend(source_id.clone());
        let mut row = TaskRow {
            owner_id: owner,
            id,
            list_id: scope.list_id,
            parent_id: scope.parent_id,
            title: task.title.into_text(),
            notes: task.notes.into_text(),
            priority: task.priority.into(),
            due_at: None,
            due_date,
            due_time: task.due_time,
            time_zone: task.time_zone,
            labels: task.labels.to_stored(),
            rank: match imported {
                Some(Imported { first, row, .. }) => rank::imported(first.unwrap_or(sequence), *row),
                None => rank::last(sequence, index),
            },
            create_time: imported.and_then(|imported| imported.create_time).unwrap_or(now),
            update_time: now,
            complete_time: imported.and_then(|imported| imported.complete_time),
            delete_time: None,
            purge_time: None,
            revision: Revision::FIRST,
            change: sequence.0,
            source_id,
            recurrence: None,
            reminders: reminder::replace("", &task.reminders, new_id, imported.is_some()),
            next_reminder: None,
        };
        let series = task.imported.and_then(|imported| imported.series);
        row.recurrence = task.recurrence.and_then(|recurrence| match series {
            Some(series) => Some(series.resume(new_id, recurrence).to_stored()),
            None => occurrences::first(&row, recurrence, new_id),
        });
        self.insert(row);
        Ok(id)
    }

    /// Adds a new task.
    pub(super) fn insert(&mut self, mut row: TaskRow) {
        row.due_at = due_at(row.due_date.as_deref(), row.due_time, &row.time_zone);
        reschedule(&mut row, None, self.context.now);
        self.ranks.entry(row.container_id()).or_default().insert(row.rank.clone(), row.id);
        self.changed.insert(row.id, None);
        self.tree.insert(row);
        self.active_delta += 1;
    }
}
