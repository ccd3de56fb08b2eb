//! A simple in-memory model: tasks and lists are in vectors, and the order of siblings is the order of a vector.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    call::{Etag, Fields, Number, Write},
    series::{Series, end_of_day},
};

pub(super) const MAX_TASKS: usize = 12;
pub(super) const MAX_LISTS: usize = 4;

/// How long deleted tasks are kept.
pub(super) const RETENTION_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;

/// The reason of an error.
pub(super) type Reason = &'static str;

/// Identifies the siblings at the top level of a list or under a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SiblingGroup {
    TopLevel(Number),
    SubtasksOf(Number),
}

/// Timestamps are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) list: Number,
    pub(super) parent: Option<Number>,
    pub(super) title: &'static str,
    pub(super) notes: &'static str,
    pub(super) priority: i32,
    /// Empty if the task has no due date.
    pub(super) date: String,
    pub(super) time: Option<i64>,
    pub(super) zone: &'static str,
    pub(super) labels: Vec<&'static str>,
    pub(super) create_time: i64,
    pub(super) update_time: i64,
    pub(super) complete_time: Option<i64>,
    pub(super) delete_time: Option<i64>,
    /// Only tasks at the top level without subtasks recur.
    pub(super) series: Option<Series>,
    /// The number of changes since creation.
    pub(super) version: u64,
}

impl Task {
    pub(super) fn is_active(&self) -> bool {
        self.delete_time.is_none()
    }

    pub(super) fn exists(&self, now: i64) -> bool {
        self.delete_time.is_none_or(|at| at + RETENTION_MICROS > now)
    }

    pub(super) fn sibling_group(&self) -> SiblingGroup {
        self.parent.map_or(SiblingGroup::TopLevel(self.list), SiblingGroup::SubtasksOf)
    }

    /// Returns the due time, or the end of the due date.
    pub(super) fn due_at(&self) -> Option<i64> {
        match &self.date[..] {
            "" => self.time.map(|seconds| seconds * 1_000_000),
            date => Some(end_of_day(date, self.zone) * 1_000_000),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) title: &'static str,
    pub(super) version: u64,
    pub(super) exists: bool,
}

/// The data of one user.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) tasks: Vec<Task>,
    /// The first is the default list.
    pub(super) lists: Vec<List>,
    /// Deleted tasks keep their positions.
    pub(super) sibling_groups: BTreeMap<SiblingGroup, Vec<Number>>,
    pub(super) now: i64,
    /// The tasks that the current call has created or changed.
    pub(super) touched: BTreeSet<Number>,
    /// The occurrences that the current call has completed, which are the last of their siblings.
    pub(super) completed_last: BTreeSet<Number>,
}

impl Model {
    pub(super) fn new() -> Self {
        let default = List { title: "Tasks", version: 0, exists: true };
        Self {
            tasks: Vec::new(),
            lists: vec![default],
            sibling_groups: BTreeMap::new(),
            now: 0,
            touched: BTreeSet::new(),
            completed_last: BTreeSet::new(),
        }
    }

    pub(super) fn active_count(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_active()).count()
    }

    pub(super) fn has_list(&self, number: Number) -> bool {
        self.lists.get(number).is_some_and(|list| list.exists)
    }

    pub(super) fn is_active(&self, number: Number) -> bool {
        self.tasks.get(number).is_some_and(Task::is_active)
    }

    /// Records a change to a task and returns the task.
    pub(super) fn touch(&mut self, number: Number) -> &mut Task {
        let task = &mut self.tasks[number];
        task.version += 1;
        if self.touched.insert(number) {
            task.update_time = self.now.max(task.update_time + 1);
        }
        task
    }

    /// Returns a task if it exists and the etag matches. `before` is the state before the call, for [`Etag::Current`].
    fn find(&self, number: Number, etag: Etag, before: &Self) -> Result<Task, Reason> {
        let task = self.tasks.get(number).filter(|task| task.exists(self.now)).ok_or("TASK_NOT_FOUND")?;
        let expected = match etag {
            Etag::None => Some(task.version),
            Etag::Current => before.tasks.get(number).map(|task| task.version),
            Etag::Initial => Some(0),
            Etag::Invalid => None,
        };
        if expected == Some(task.version) { Ok(task.clone()) } else { Err("ETAG_MISMATCH") }
    }

    fn find_active(&self, number: Number, etag: Etag, before: &Self) -> Result<Task, Reason> {
        if self.is_active(number) { self.find(number, etag, before) } else { Err("TASK_NOT_FOUND") }
    }

    /// Returns the existing subtasks of a task at all levels.
    pub(super) fn subtasks(&self, number: Number) -> Vec<Number> {
        let is_child = |(_, task): &(Number, &Task)| task.parent == Some(number) && task.exists(self.now);
        let children = self.tasks.iter().enumerate().filter(is_child);
        children.flat_map(|(child, _)| [vec![child], self.subtasks(child)].concat()).collect()
    }

    /// Executes a write and returns the task that it concerns, if any.
    pub(super) fn write(&mut self, write: &Write, before: &Self) -> Result<Option<Number>, Reason> {
        match write {
            Write::Create(fields, list, parent) => self.create(fields, *list, *parent).map(Some),
            Write::Update(id, etag, fields, mask, scope) => {
                self.find_active(*id, *etag, before)?;
                self.update(*id, fields, mask, *scope).map(|()| Some(*id))
            }
            Write::Delete(id, etag, allow_missing) => self.delete(*id, *etag, *allow_missing, before),
            Write::Complete(id, etag, include_subtasks) => {
                self.find_active(*id, *etag, before)?;
                let subtasks = if *include_subtasks { self.subtasks(*id) } else { Vec::new() };
                for number in [vec![*id], subtasks].concat() {
                    if self.is_active(number) && self.tasks[number].complete_time.is_none() {
                        self.touch(number).complete_time = Some(self.now);
                        self.create_next(number);
                    }
                }
                Ok(Some(*id))
            }
            Write::Reopen(id, etag) => {
                if self.find_active(*id, *etag, before)?.complete_time.is_some() {
                    self.touch(*id).complete_time = None;
                }
                Ok(Some(*id))
            }
            Write::Move { id, etag, list, parent, placement } => {
                let task = self.find_active(*id, *etag, before)?;
                self.move_task(*id, &task, *list, *parent, *placement).map(|()| Some(*id))
            }
            Write::SkipOccurrence(id, etag) => {
                let task = self.find_active(*id, *etag, before)?;
                self.skip(*id, &task).map(|()| Some(*id))
            }
            Write::StopRecurrence(id, etag) => {
                let task = self.find_active(*id, *etag, before)?;
                self.stop(*id, &task).map(|()| Some(*id))
            }
        }
    }

    fn create(&mut self, fields: &Fields, list: Option<Number>, parent: Option<Number>) -> Result<Number, Reason> {
        let list = self.list_for(list, parent, 1)?;
        let number = self.tasks.len();
        self.touched.insert(number);
        let Fields { title, notes, priority, date, time, zone, ref labels, rule } = *fields;
        self.tasks.push(Task {
            list,
            parent,
            title,
            notes,
            priority,
            date: date.to_owned(),
            time,
            zone,
            labels: labels.clone(),
            create_time: self.now,
            update_time: self.now,
            complete_time: None,
            delete_time: None,
            series: None,
            version: 0,
        });
        if let Some(rule) = rule {
            let slot = self.tasks[number].slot().ok_or("VALIDATION_FAILED")?;
            self.tasks[number].series = Some(Series::new(rule, slot));
        }
        self.insert_last(number, self.tasks[number].sibling_group());
        Ok(number)
    }

    fn delete(&mut self, id: Number, etag: Etag, allow_missing: bool, before: &Self) -> Result<Option<Number>, Reason> {
        if allow_missing && !self.is_active(id) {
            return Ok(Some(id).filter(|id| self.tasks.get(*id).is_some_and(|task| task.exists(self.now))));
        }
        self.find_active(id, etag, before)?;
        for number in [vec![id], self.subtasks(id)].concat() {
            if self.is_active(number) {
                self.touch(number).delete_time = Some(self.now);
            }
        }
        Ok(Some(id))
    }

    pub(super) fn undelete(&mut self, id: Number, etag: Etag, before: &Self) -> Result<Number, Reason> {
        let task = self.find(id, etag, before)?;
        let Some(delete_time) = task.delete_time else { return Ok(id) };
        let subtasks = self.subtasks(id);
        for subtask in [vec![id], subtasks.clone()].concat() {
            if self.tasks[subtask].delete_time == Some(delete_time) {
                self.touch(subtask).delete_time = None;
            }
        }
        let list = if self.has_list(task.list) { task.list } else { 0 };
        for subtask in [vec![id], subtasks].concat() {
            if self.tasks[subtask].list != list {
                self.touch(subtask).list = list;
            }
        }
        let parent = task.parent.filter(|parent| self.is_active(*parent));
        self.tasks[id].parent = parent;
        if self.tasks[id].sibling_group() != task.sibling_group() {
            self.insert_last(id, self.tasks[id].sibling_group());
        }
        Ok(id)
    }
}
