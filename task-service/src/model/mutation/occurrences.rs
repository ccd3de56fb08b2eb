//! Recurring tasks: the next occurrence, which the completion of a task creates.

use service_kit::status::ApiError;
use uuid::Uuid;

use super::{Node, WorkingSet, error::WriteError};
use crate::{
    error::{quota_exceeded, task_not_recurring},
    model::{
        Revision, Target, TaskRow, rank,
        recurrence::{Ending, Occurrence, Originals, Recurrence},
        reminder,
    },
};

/// Maximum number of tasks that a mutation creates as next occurrences, with their subtasks. Together with the tasks that
/// a batch creates, these are not more than a mutation purges of an account at its limit.
const MAX_NEXT_TASKS: usize = 100;

/// The ranks of completed occurrences follow those of the tasks that the writes of a batch create.
const FIRST_RANK_INDEX: usize = 100;

impl WorkingSet {
    /// Completes a task and, if `include_subtasks`, its open descendants. `new_id` is an unused id.
    pub(super) fn complete(
        &mut self,
        target: Target,
        include_subtasks: bool,
        new_id: Uuid,
    ) -> Result<Uuid, WriteError> {
        let is_open = self.active_task(target)?.complete_time.is_none();
        if include_subtasks {
            let is_open = |id: &Uuid| self.tree.node(*id).is_some_and(Node::is_open);
            let open: Vec<_> = self.tree.descendants(target.id).into_iter().map(|(id, _)| id).filter(is_open).collect();
            // From the bottom, so that the next occurrence of a subtask exists when that of its parent is created.
            for id in open.into_iter().rev() {
                self.complete_one(id, new_id)?;
            }
        }
        if is_open {
            self.complete_one(target.id, new_id)?;
        }
        Ok(target.id)
    }

    /// Completes an open task, and creates its next occurrence if there is one.
    fn complete_one(&mut self, id: Uuid, new_id: Uuid) -> Result<(), WriteError> {
        let now = self.context.now;
        let searches = &mut self.searches;
        let next = self.tree.task(id).and_then(|task| {
            let occurrence = task.occurrence().filter(|occurrence| occurrence.next_task_id.is_none())?;
            let next = occurrence.next(series_zone(task, &occurrence), now, Ending::Completed, searches)?;
            Some((task.clone(), occurrence, next))
        });
        if next.is_none() && self.searches.is_exhausted() {
            return Err(too_many_days());
        }
        self.change_node(id, |node| node.complete_time = Some(now));
        let Some((task, occurrence, next)) = next else { return Ok(()) };
        let next_id = self.next_id(new_id)?;
        let days = i64::from((next.schedule.slot.date() - occurrence.schedule.slot.date()).get_days());
        let mut copy = self.copy(&task, next_id);
        follow(&mut copy, &occurrence.schedule.originals, &next);
        // The next occurrence takes over the position, so that ranks do not grow with the length of a series.
        let last_rank = rank::last(self.context.sequence, FIRST_RANK_INDEX + self.next_tasks);
        let occurrence = Occurrence { next_task_id: Some(next_id), ..occurrence };
        self.tree
            .change_task(id, |task| (task.rank, task.recurrence) = (last_rank.clone(), Some(occurrence.to_stored())));
        self.ranks.entry(copy.container_id()).or_default().insert(last_rank, id);
        self.insert(copy);
        self.renew_subtasks(id, next_id, days, new_id)
    }

    /// Copies the active subtasks of a task to its next occurrence, which is this number of days later. Subtasks that recur
    /// themselves are moved.
    fn renew_subtasks(&mut self, from: Uuid, to: Uuid, days: i64, new_id: Uuid) -> Result<(), WriteError> {
        let mut parents = vec![(from, to)];
        while let Some((from, to)) = parents.pop() {
            for child in self.tree.active_children(from) {
                // Too many subtasks are not read.
                let task = self.tree.task(child).cloned().ok_or_else(too_many)?;
                match task.occurrence() {
                    None => {
                        let id = self.next_id(new_id)?;
                        let mut copy = TaskRow { parent_id: Some(to), ..self.copy(&task, id) };
                        copy.shift_due(days);
                        self.insert(copy);
                        parents.push((child, id));
                    }
                    Some(occurrence) if occurrence.next_task_id.is_none() && task.complete_time.is_none() => {
                        self.ranks.entry(to).or_default().insert(task.rank, child);
                        self.change(child, |task| task.parent_id = Some(to));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Returns the id of another task that a completion creates. The ids of a mutation differ in their last bits.
    fn next_id(&mut self, new_id: Uuid) -> Result<Uuid, WriteError> {
        if self.next_tasks == MAX_NEXT_TASKS {
            return Err(too_many());
        }
        self.next_tasks += 1;
        Ok(Uuid::from_u128(new_id.as_u128() ^ self.next_tasks as u128))
    }

    /// Returns an open copy of a task.
    fn copy(&self, task: &TaskRow, id: Uuid) -> TaskRow {
        let (now, change) = (self.context.now, self.context.sequence.0);
        TaskRow {
            id,
            create_time: now,
            update_time: now,
            complete_time: None,
            revision: Revision::FIRST,
            change,
            // Only one task has it.
            source_id: None,
            reminders: reminder::renew(&task.reminders),
            ..task.clone()
        }
    }

    /// Makes a task the next occurrence of its series.
    pub(super) fn skip_occurrence(&mut self, target: Target) -> Result<Uuid, WriteError> {
        let task = self.active_task(target)?;
        let Some(occurrence) = task.occurrence() else {
            return Err(task_not_recurring("the task does not recur").into());
        };
        if let Some(next) = occurrence.next_task_id {
            return Err(if self.is_active(next) { superseded(next) } else { next_deleted(next) }.into());
        }
        if task.complete_time.is_some() {
            return Err(task_not_recurring("the task is completed; reopen it first").into());
        }
        let mut searches = self.searches.clone();
        let next = occurrence.next(series_zone(task, &occurrence), self.context.now, Ending::Skipped, &mut searches);
        self.searches = searches;
        if next.is_none() && self.searches.is_exhausted() {
            return Err(too_many_days());
        }
        let next = next.ok_or_else(|| {
            task_not_recurring("the rule has ended with this occurrence; complete or delete the task")
        })?;
        self.change(target.id, |task| follow(task, &occurrence.schedule.originals, &next));
        Ok(target.id)
    }

    /// Removes the recurrence of a task.
    pub(super) fn stop_recurrence(&mut self, target: Target) -> Result<Uuid, WriteError> {
        match self.active_task(target)?.occurrence() {
            None => {}
            Some(occurrence) => match self.active_next(&occurrence) {
                Some(next) => return Err(superseded(next).into()),
                None => self.change(target.id, |task| task.recurrence = None),
            },
        }
        Ok(target.id)
    }

    /// Returns the next occurrence, which an earlier completion has created, unless it was deleted.
    pub(super) fn active_next(&self, occurrence: &Occurrence) -> Option<Uuid> {
        occurrence.next_task_id.filter(|id| self.is_active(*id))
    }
}

/// Sets what distinguishes an occurrence from the one before it. The reminders that it takes over are relative to its due
/// date, and have not fired.
fn follow(task: &mut TaskRow, originals: &Originals, next: &Occurrence) {
    let Originals { title, notes, priority, time_zone, labels, reminders } = originals.clone();
    task.title = title.unwrap_or_else(|| std::mem::take(&mut task.title));
    task.notes = notes.unwrap_or_else(|| std::mem::take(&mut task.notes));
    task.priority = priority.unwrap_or(task.priority);
    task.time_zone = time_zone.unwrap_or_else(|| std::mem::take(&mut task.time_zone));
    task.labels = labels.unwrap_or_else(|| std::mem::take(&mut task.labels));
    task.reminders = reminders.unwrap_or_else(|| reminder::renew(&task.reminders));
    task.set_due(next.schedule.slot);
    task.recurrence = Some(next.to_stored());
}

/// Returns the time zone of the series, which may differ from that of one occurrence.
pub(super) fn series_zone<'t>(task: &'t TaskRow, occurrence: &'t Occurrence) -> &'t str {
    occurrence.schedule.originals.time_zone.as_ref().unwrap_or(&task.time_zone)
}

fn superseded(next: Uuid) -> ApiError {
    task_not_recurring("the next occurrence exists already").metadata("next_task_id", next)
}

/// No other next occurrence is created, because the deleted one can be restored.
fn next_deleted(next: Uuid) -> ApiError {
    task_not_recurring(
        "the next occurrence was deleted, and no other one is created; stop the recurrence or set a new one",
    )
    .metadata("next_task_id", next)
}

fn too_many_days() -> WriteError {
    quota_exceeded("the rules of the completed and skipped tasks require too many days to be examined in one call")
        .into()
}

fn too_many() -> WriteError {
    quota_exceeded("a call creates at most 100 tasks as next occurrences and their subtasks").into()
}

/// Returns the stored recurrence of a task that begins a series, whose recurrence is checked.
pub(super) fn first(task: &TaskRow, recurrence: Recurrence, series_id: Uuid) -> Option<String> {
    Some(Occurrence::first(series_id, recurrence, task.slot()?).to_stored())
}
