//! What becomes of an owner's tasks when something is done to them. Nothing here asks a database: what the writes touch
//! has been read before, while no other write of the owner is under way, and what has changed is written after.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use service_kit::{clock::Timestamp, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use super::{
    Revision, Target, TaskRow,
    due::due_at,
    rank::{self, SequenceNumber},
    write::{Change, NewTask, TaskUpdate, Write},
};
use crate::error::{etag_mismatch, list_not_found, quota_exceeded, task_not_found};

mod place;

/// Where siblings are: in a list, under a task or at its top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) list_id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
}

impl Scope {
    /// What the siblings are directly in, which stays the same when a task goes to another list with its parts.
    pub(crate) fn holder(self) -> Uuid {
        self.parent_id.unwrap_or(self.list_id)
    }
}

/// Who executes a mutation, when, and as which one of the owner's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutationContext {
    pub(crate) owner: Uuid,
    pub(crate) now: Timestamp,
    /// When what is deleted now will be gone for good.
    pub(crate) purge_time: Timestamp,
    pub(crate) place: SequenceNumber,
}

/// The tasks, lists and ranks that a mutation reads, as its writes leave them one after the other.
#[derive(Debug)]
pub(crate) struct WorkingSet {
    pub(crate) context: MutationContext,
    /// The tasks that are named, those that they are a part of, and those that are a part of them.
    pub(crate) tasks: HashMap<Uuid, TaskRow>,
    /// The lists that are named, as far as they are there. The default list always is.
    pub(crate) lists: HashSet<Uuid>,
    /// The ranks of the siblings of every task that another shall be moved beside, as far as they are near, by what they
    /// are in.
    pub(crate) ranks: HashMap<Uuid, BTreeMap<String, Uuid>>,
    /// The tasks that have changed, those that are new among them.
    pub(crate) changed: BTreeSet<Uuid>,
    pub(crate) created: HashSet<Uuid>,
    /// How many more live tasks there are than before.
    pub(crate) live: i64,
    /// How many more there may be.
    pub(crate) room: i64,
}

/// Why a write cannot be done, and the field that is to blame, as a path within the write.
pub(crate) type Blame = (ApiError, Option<(&'static str, &'static str)>);

fn wrong(field: &'static str, fault: &'static str) -> Blame {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, fault);
    (error, Some((field, fault)))
}

fn no_list(field: &'static str) -> Blame {
    (list_not_found(), Some((field, "is no list of the caller")))
}

impl WorkingSet {
    /// Does the write with this number among those of the act, and gives the task as it is then; none if there was none
    /// and that is all right.
    pub(crate) fn apply(&mut self, number: usize, write: Write, new_id: Uuid) -> Result<Option<TaskRow>, Blame> {
        let before = self.live;
        let id = match write {
            Write::Create(task) => self.create(number, task, new_id)?,
            Write::Update(update) => self.update(update)?,
            Write::Delete { target, allow_missing } => match self.delete(target, allow_missing)? {
                Some(id) => id,
                None => return Ok(None),
            },
            Write::Undelete(target) => self.undelete(number, target)?,
            Write::Complete(target) => self.set_complete(target, true)?,
            Write::Reopen(target) => self.set_complete(target, false)?,
            Write::Move(order) => self.move_task(number, &order)?,
        };
        if self.live > before && self.live > self.room {
            return Err((quota_exceeded("the account has reached its limit of active tasks"), None));
        }
        Ok(self.tasks.get(&id).cloned())
    }

    /// The tasks that have changed.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &TaskRow> {
        self.changed.iter().filter_map(|id| self.tasks.get(id))
    }

    /// A live task, if it is as the caller has seen it.
    fn live(&self, target: Target) -> Result<&TaskRow, Blame> {
        let task = self.tasks.get(&target.id).filter(|task| task.delete_time.is_none());
        expected(task, target)
    }

    fn is_live(&self, id: Uuid) -> bool {
        self.tasks.get(&id).is_some_and(|task| task.delete_time.is_none())
    }

    /// Changes a task, which is there.
    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut TaskRow)) {
        let MutationContext { now, place, .. } = self.context;
        if let Some(task) = self.tasks.get_mut(&id) {
            change(task);
            task.revision = task.revision.next();
            task.update_time = now;
            task.change = place.0;
            self.changed.insert(id);
        }
    }

    fn create(&mut self, number: usize, task: NewTask, id: Uuid) -> Result<Uuid, Blame> {
        let MutationContext { owner, now, place, .. } = self.context;
        let scope = self.place_for(task.list_id, task.parent_id, ["task.list_id", "task.parent_id"])?;
        let due_date = task.due_date.map(|date| date.to_string());
        let row = TaskRow {
            owner_id: owner,
            id,
            list_id: scope.list_id,
            parent_id: scope.parent_id,
            title: task.title.into_text(),
            notes: task.notes.into_text(),
            priority: task.priority.into(),
            due_at: due_at(due_date.as_deref(), task.due_time, &task.time_zone),
            due_date,
            due_time: task.due_time,
            time_zone: task.time_zone,
            labels: task.labels.stored(),
            rank: rank::last(place, number),
            create_time: now,
            update_time: now,
            complete_time: None,
            delete_time: None,
            purge_time: None,
            revision: Revision::FIRST,
            change: place.0,
        };
        self.ranks.entry(scope.holder()).or_default().insert(row.rank.clone(), id);
        self.tasks.insert(id, row);
        self.changed.insert(id);
        self.created.insert(id);
        self.live += 1;
        Ok(id)
    }

    fn update(&mut self, update: TaskUpdate) -> Result<Uuid, Blame> {
        let id = self.live(update.target)?.id;
        if update.is_change() {
            self.change(id, |task| overwrite(task, update));
        }
        Ok(id)
    }

    fn set_complete(&mut self, target: Target, done: bool) -> Result<Uuid, Blame> {
        let (now, is_done) = (self.context.now, self.live(target)?.complete_time.is_some());
        if is_done != done {
            self.change(target.id, |task| task.complete_time = done.then_some(now));
        }
        Ok(target.id)
    }

    fn delete(&mut self, target: Target, allow_missing: bool) -> Result<Option<Uuid>, Blame> {
        if allow_missing && !self.is_live(target.id) {
            return Ok(self.tasks.contains_key(&target.id).then_some(target.id));
        }
        let MutationContext { now, purge_time, .. } = self.context;
        self.live(target)?;
        let parts = self.parts(target.id).into_iter().map(|(id, _)| id);
        for id in parts.chain([target.id]).filter(|id| self.is_live(*id)).collect::<Vec<_>>() {
            self.change(id, |task| (task.delete_time, task.purge_time) = (Some(now), Some(purge_time)));
            self.live -= 1;
        }
        Ok(Some(target.id))
    }

    fn undelete(&mut self, number: usize, target: Target) -> Result<Uuid, Blame> {
        let task = expected(self.tasks.get(&target.id), target)?;
        let Some(delete_time) = task.delete_time else { return Ok(target.id) };
        let (list_id, parent_id) = (task.list_id, task.parent_id.filter(|id| self.is_live(*id)));
        let list_id = if self.lists.contains(&list_id) { list_id } else { self.context.owner };
        let with_it = |id: &Uuid| self.tasks.get(id).is_some_and(|task| task.delete_time == Some(delete_time));
        let parts: Vec<_> = self.parts(target.id).into_iter().map(|(id, _)| id).filter(with_it).collect();
        let goes = task.list_id != list_id || task.parent_id != parent_id;
        let last = rank::last(self.context.place, number);
        self.change(target.id, |task| {
            (task.delete_time, task.purge_time) = (None, None);
            if goes {
                (task.parent_id, task.rank) = (parent_id, last);
            }
        });
        self.live += 1;
        for id in parts {
            self.change(id, |task| (task.delete_time, task.purge_time) = (None, None));
            self.live += 1;
        }
        self.set_list(target.id, list_id);
        Ok(target.id)
    }

    /// Puts a task and all that are a part of it into a list.
    fn set_list(&mut self, id: Uuid, list_id: Uuid) {
        if self.tasks.get(&id).is_some_and(|task| task.list_id == list_id) {
            return;
        }
        let parts = self.parts(id).into_iter().map(|(id, _)| id);
        for id in parts.chain([id]).collect::<Vec<_>>() {
            self.change(id, |task| task.list_id = list_id);
        }
    }
}

/// The task, if it is there and as the caller has seen it.
fn expected(task: Option<&TaskRow>, target: Target) -> Result<&TaskRow, Blame> {
    let task = task.ok_or_else(|| (task_not_found(), None))?;
    if target.revision.is_some_and(|revision| revision != task.revision) {
        return Err((etag_mismatch(), None));
    }
    Ok(task)
}

fn overwrite(task: &mut TaskRow, update: TaskUpdate) {
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
        task.labels = labels.stored();
    }
    task.due_at = due_at(task.due_date.as_deref(), task.due_time, &task.time_zone);
}
