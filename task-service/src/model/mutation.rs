//! Applies writes to the tasks of an owner, in memory. The store locks the owner against other writes, reads the tasks
//! that the writes need, and stores the changed tasks afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    Target, TaskRow,
    due::due_at,
    later,
    rank::SequenceNumber,
    recurrence::SearchBudget,
    reminder::{Due, reschedule},
    write::Write,
};
use crate::error::{etag_mismatch, quota_exceeded, task_not_found};

mod creation;
mod deletion;
mod error;
mod location;
mod occurrences;
mod reminders;
mod tree;
mod update;

use error::WriteError;
pub(crate) use location::MAX_LEVELS;
pub(crate) use tree::{Node, Relative, TaskTree};

/// The location that siblings share: their list, and their parent unless they are at the top level of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) list_id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
}

impl Scope {
    /// Returns the id of the parent or, at the top level, of the list. For subtasks it stays the same when their parent
    /// moves to another list.
    pub(crate) fn container_id(self) -> Uuid {
        self.parent_id.unwrap_or(self.list_id)
    }
}

/// Who makes a mutation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actor {
    /// The user, or the service that acts on behalf of the user. `None` if the server makes it by itself.
    pub(crate) id: Option<Uuid>,
    pub(crate) session_id: Option<Uuid>,
}

/// What the writes of a mutation have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutationContext {
    pub(crate) owner: Uuid,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
    /// When the tasks that this mutation deletes are purged.
    pub(crate) purge_time: Timestamp,
    pub(crate) sequence: SequenceNumber,
}

/// The tasks, lists and ranks that a mutation concerns, as its writes change them one after the other.
#[derive(Debug)]
pub(crate) struct WorkingSet {
    pub(crate) context: MutationContext,
    pub(crate) tree: TaskTree,
    /// The named lists that exist, and the default list, which always exists.
    pub(crate) lists: HashSet<Uuid>,
    /// For each [container](Scope::container_id), the ranks and ids of the tasks near those beside which others are
    /// moved.
    pub(crate) ranks: HashMap<Uuid, BTreeMap<String, Uuid>>,
    /// The changed tasks that the writes name, each as it was before the mutation, or `None` if the mutation has created
    /// it.
    pub(crate) changed: BTreeMap<Uuid, Option<TaskRow>>,
    /// The ids that clients have chosen for new tasks, but that belong to other tasks or lists of the owner.
    pub(crate) taken: HashSet<Uuid>,
    /// The source ids of tasks to import that other tasks of the owner have.
    pub(crate) taken_sources: HashSet<String>,
    /// The change in the number of active tasks.
    pub(crate) active_delta: i64,
    /// The maximum of `active_delta`, which follows from the limit of active tasks.
    pub(crate) max_active_delta: i64,
    /// The number of tasks that were created as next occurrences, with their subtasks.
    pub(crate) next_tasks: usize,
    /// What the searches for occurrences may still examine.
    pub(crate) searches: SearchBudget,
}

/// A task before and after a mutation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangedTask<'a> {
    /// `None` if the mutation has created the task.
    pub(crate) before: Option<&'a TaskRow>,
    pub(crate) after: &'a TaskRow,
}

impl WorkingSet {
    /// Applies the write with this index in the mutation, and returns the task after it. Returns `None` if the task is
    /// missing and the write allows that.
    pub(crate) fn apply(&mut self, index: usize, write: Write, new_id: Uuid) -> Result<Option<TaskRow>, WriteError> {
        let delta_before = self.active_delta;
        let id = match write {
            Write::Create(task) => self.create(index, task, new_id)?,
            Write::Update(update) => self.update(update, new_id)?,
            Write::Delete { target, allow_missing } => match self.delete(target, allow_missing)? {
                Some(id) => id,
                None => return Ok(None),
            },
            Write::Undelete(target) => self.undelete(index, target)?,
            Write::Complete { target, include_subtasks } => self.complete(target, include_subtasks, new_id)?,
            Write::Reopen(target) => self.reopen(target)?,
            Write::Move(task_move) => self.move_task(index, &task_move)?,
            Write::SkipOccurrence(target) => self.skip_occurrence(target)?,
            Write::StopRecurrence(target) => self.stop_recurrence(target)?,
            Write::Snooze { target, reminder_id, time } => self.snooze(target, reminder_id, time)?,
            Write::Acknowledge { target, reminder_id } => self.acknowledge(target, reminder_id)?,
        };
        if self.active_delta > delta_before && self.active_delta > self.max_active_delta {
            return Err(quota_exceeded("the account has reached its limit of active tasks").into());
        }
        Ok(self.tree.task(id).cloned())
    }

    /// Returns the changed tasks that the writes name, including created ones.
    pub(crate) fn changed_tasks(&self) -> impl Iterator<Item = ChangedTask<'_>> {
        let with_after = |(id, before): (&Uuid, _)| Some(ChangedTask { before, after: self.tree.task(*id)? });
        self.changed.iter().map(|(id, before)| (id, before.as_ref())).filter_map(with_after)
    }

    /// Reports whether any task has changed.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || self.tree.changed_relatives().next().is_some()
    }

    fn is_created(&self, id: Uuid) -> bool {
        matches!(self.changed.get(&id), Some(None))
    }

    /// Returns an active task, if its etag matches.
    fn active_task(&self, target: Target) -> Result<&TaskRow, WriteError> {
        let task = self.tree.task(target.id).filter(|task| task.delete_time.is_none());
        check_target(task, target)
    }

    fn is_active(&self, id: Uuid) -> bool {
        self.tree.active(id).is_some()
    }

    /// Changes a task, and increments its revision.
    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut TaskRow)) {
        let MutationContext { now, sequence, .. } = self.context;
        let Some(before) = self.tree.task(id) else { return };
        // Only the first change in a mutation replaces a row of the database.
        self.changed.entry(id).or_insert_with(|| Some(before.clone()));
        self.tree.change_task(id, |task| {
            let due_before = Due::for_reminders(task);
            change(task);
            task.revision = task.revision.next();
            // Once per mutation, because nobody sees a task between two writes of a mutation.
            if task.change != sequence.0 {
                task.update_time = later(now, task.update_time);
            }
            // Tasks from before this column existed have none until the backfill.
            task.due_at = due_at(task.due_date.as_deref(), task.due_time, &task.time_zone);
            reschedule(task, due_before.as_ref(), now);
            task.change = sequence.0;
        });
    }

    /// Changes a task or a relative, except its parent.
    fn change_node(&mut self, id: Uuid, change: impl Fn(&mut Node)) {
        if !self.tree.change_relative(id, &change) {
            self.change(id, |task| {
                let mut node = Node::from_task(task);
                change(&mut node);
                (task.list_id, task.complete_time) = (node.list_id, node.complete_time);
                (task.delete_time, task.purge_time) = (node.delete_time, node.purge_time);
            });
        }
    }

    fn reopen(&mut self, target: Target) -> Result<Uuid, WriteError> {
        if self.active_task(target)?.complete_time.is_some() {
            self.change(target.id, |task| task.complete_time = None);
        }
        Ok(target.id)
    }
}

/// Returns the task, if it exists and its etag matches.
fn check_target(task: Option<&TaskRow>, target: Target) -> Result<&TaskRow, WriteError> {
    let task = task.ok_or_else(task_not_found)?;
    if target.revision.is_some_and(|revision| revision != task.revision) {
        return Err(etag_mismatch().into());
    }
    Ok(task)
}
