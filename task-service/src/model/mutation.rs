//! Applies writes to the tasks of an owner, in memory. The store locks the owner against other writes, reads the tasks
//! that the writes need, and stores the changed tasks afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use service_kit::{clock::Timestamp, status::ApiError, update_mask::CANNOT_BE_CHANGED};
use uuid::Uuid;

use super::{
    Revision, Target, TaskRow,
    due::due_at,
    later,
    rank::{self, SequenceNumber},
    reminder::{self, Due, reschedule},
    write::{Change, Imported, NewTask, TaskUpdate, Write},
};
use crate::error::{etag_mismatch, list_not_found, quota_exceeded, task_id_taken, task_not_found, validation_failed};

mod location;
mod occurrences;
mod reminders;
mod tree;

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
}

/// A task before and after a mutation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangedTask<'a> {
    /// `None` if the mutation has created the task.
    pub(crate) before: Option<&'a TaskRow>,
    pub(crate) after: &'a TaskRow,
}

/// The error of a write and, if a field is invalid, the path of the field within the write and a description.
pub(crate) type WriteError = (ApiError, Option<(&'static str, &'static str)>);

fn invalid_field(path: &'static str, description: &'static str) -> WriteError {
    let error = validation_failed(description);
    (error, Some((path, description)))
}

fn unknown_list(path: &'static str) -> WriteError {
    (list_not_found(), Some((path, "is not a list of the caller")))
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
            return Err((quota_exceeded("the account has reached its limit of active tasks"), None));
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

    fn create(&mut self, index: usize, task: NewTask, new_id: Uuid) -> Result<Uuid, WriteError> {
        let MutationContext { owner, now, sequence, .. } = self.context;
        let id = task.id.unwrap_or(new_id);
        if self.taken.contains(&id) || self.is_created(id) {
            return Err((task_id_taken(), Some(("task_id", "is the id of another task or list of the caller"))));
        }
        let imported = task.imported.as_deref();
        let source_id = imported.and_then(|imported| imported.source_id.clone());
        if source_id.as_ref().is_some_and(|source_id| self.taken_sources.contains(source_id)) {
            return Err((task_id_taken(), Some(("task.source_id", "is the source id of another task of the caller"))));
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
        row.recurrence = task.recurrence.and_then(|recurrence| occurrences::first(&row, recurrence, new_id));
        self.insert(row);
        Ok(id)
    }

    /// Adds a new task.
    fn insert(&mut self, mut row: TaskRow) {
        row.due_at = due_at(row.due_date.as_deref(), row.due_time, &row.time_zone);
        reschedule(&mut row, None, self.context.now);
        self.ranks.entry(row.container_id()).or_default().insert(row.rank.clone(), row.id);
        self.changed.insert(row.id, None);
        self.tree.insert(row);
        self.active_delta += 1;
    }

    fn update(&mut self, update: TaskUpdate, new_id: Uuid) -> Result<Uuid, WriteError> {
        let task = self.active_task(update.target)?;
        if let Some(path) = update.repeated.first_difference(task) {
            return Err(invalid_field(path, CANNOT_BE_CHANGED));
        }
        let id = task.id;
        if update.has_changes() {
            let recurrence = occurrences::updated(task, &update, new_id)?;
            self.change(id, |task| {
                apply_update(task, update, new_id);
                task.recurrence = recurrence;
            });
        }
        Ok(id)
    }

    fn reopen(&mut self, target: Target) -> Result<Uuid, WriteError> {
        if self.active_task(target)?.complete_time.is_some() {
            self.change(target.id, |task| task.complete_time = None);
        }
        Ok(target.id)
    }

    fn delete(&mut self, target: Target, allow_missing: bool) -> Result<Option<Uuid>, WriteError> {
        if allow_missing && !self.is_active(target.id) {
            return Ok(self.tree.task(target.id).map(|task| task.id));
        }
        let MutationContext { now, purge_time, .. } = self.context;
        self.active_task(target)?;
        let descendants = self.tree.descendants(target.id).into_iter().map(|(id, _)| id);
        for id in descendants.chain([target.id]).filter(|id| self.is_active(*id)).collect::<Vec<_>>() {
            self.change_node(id, |node| (node.delete_time, node.purge_time) = (Some(now), Some(purge_time)));
            self.active_delta -= 1;
        }
        Ok(Some(target.id))
    }

    fn undelete(&mut self, index: usize, target: Target) -> Result<Uuid, WriteError> {
        let task = check_target(self.tree.task(target.id), target)?;
        let Some(delete_time) = task.delete_time else { return Ok(target.id) };
        let (list_id, parent_id) = (task.list_id, task.parent_id.filter(|id| self.is_active(*id)));
        let list_id = if self.lists.contains(&list_id) { list_id } else { self.context.owner };
        let deleted_together =
            |id: &Uuid| self.tree.node(*id).is_some_and(|node| node.delete_time == Some(delete_time));
        let descendants = self.tree.descendants(target.id).into_iter().map(|(id, _)| id);
        let descendants: Vec<_> = descendants.filter(deleted_together).collect();
        let is_moved = task.list_id != list_id || task.parent_id != parent_id;
        let last_rank = rank::last(self.context.sequence, index);
        self.change(target.id, |task| {
            (task.delete_time, task.purge_time) = (None, None);
            if is_moved {
                (task.parent_id, task.rank) = (parent_id, last_rank);
            }
        });
        self.active_delta += 1;
        for id in descendants {
            self.change_node(id, |node| (node.delete_time, node.purge_time) = (None, None));
            self.active_delta += 1;
        }
        self.set_list(target.id, list_id);
        Ok(target.id)
    }

    /// Moves a task and its descendants to a list.
    fn set_list(&mut self, id: Uuid, list_id: Uuid) {
        if self.tree.node(id).is_some_and(|node| node.list_id == list_id) {
            return;
        }
        let descendants = self.tree.descendants(id).into_iter().map(|(id, _)| id);
        for id in descendants.chain([id]).collect::<Vec<_>>() {
            self.change_node(id, |node| node.list_id = list_id);
        }
    }
}

/// Returns the task, if it exists and its etag matches.
fn check_target(task: Option<&TaskRow>, target: Target) -> Result<&TaskRow, WriteError> {
    let task = task.ok_or_else(|| (task_not_found(), None))?;
    if target.revision.is_some_and(|revision| revision != task.revision) {
        return Err((etag_mismatch(), None));
    }
    Ok(task)
}

fn apply_update(task: &mut TaskRow, update: TaskUpdate, new_id: Uuid) {
    if let Some(title) = update.title {
        task.title = title.into_text();
    }
    if let Some(notes) = update.notes {
        task.notes = notes.into_text();
    }
    if let Some(priority) = update.priority {
        task.priority = priority.into();
    }
    match update.due_date {
        Change::Keep => {}
        Change::Clear => task.due_date = None,
        Change::Set(date) => task.due_date = Some(date.to_string()),
    }
    match update.due_time {
        Change::Keep => {}
        Change::Clear => task.due_time = None,
        Change::Set(time) => task.due_time = Some(time),
    }
    if let Some(time_zone) = update.time_zone {
        task.time_zone = time_zone;
    }
    if let Some(labels) = update.labels {
        task.labels = labels.to_stored();
    }
    if let Some(reminders) = update.reminders {
        task.reminders = reminder::replace(&task.reminders, &reminders, new_id, false);
    }
}
