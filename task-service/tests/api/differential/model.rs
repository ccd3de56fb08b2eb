//! What becomes of tasks and lists, in the plainest way: everything is in a vector, and the order of siblings is the
//! order of a vector.

use std::collections::BTreeMap;

use super::call::{Etag, Fields, Mask, Number, Write};

pub(super) const MAX_TASKS: usize = 12;
pub(super) const MAX_LISTS: usize = 4;

/// For so long what is deleted is kept.
pub(super) const KEPT: i64 = 30 * 24 * 3600 * 1_000_000;

/// Why something is refused.
pub(super) type Reason = &'static str;

/// Siblings: those at the top of a list, or under a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Top(Number),
    Under(Number),
}

/// Instants are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) list: Number,
    pub(super) parent: Option<Number>,
    pub(super) title: &'static str,
    pub(super) notes: &'static str,
    pub(super) priority: i32,
    /// Empty if there is none.
    pub(super) date: &'static str,
    pub(super) time: Option<i64>,
    pub(super) zone: &'static str,
    pub(super) labels: Vec<&'static str>,
    pub(super) create_time: i64,
    pub(super) update_time: i64,
    pub(super) complete_time: Option<i64>,
    pub(super) delete_time: Option<i64>,
    /// Counts the changes, from 0.
    pub(super) version: u64,
}

impl Task {
    pub(super) fn is_live(&self) -> bool {
        self.delete_time.is_none()
    }

    pub(super) fn is_there(&self, now: i64) -> bool {
        self.delete_time.is_none_or(|at| at + KEPT > now)
    }

    pub(super) fn family(&self) -> Family {
        self.parent.map_or(Family::Top(self.list), Family::Under)
    }

    /// The end of the day, or the instant.
    pub(super) fn due_at(&self) -> Option<i64> {
        let end = match self.date {
            "2026-11-30" => 1_796_083_200,
            "2026-12-31" => 1_798_761_600,
            "2031-02-28" => 1_930_089_600,
            _ => return self.time.map(|seconds| seconds * 1_000_000),
        };
        let east = if self.zone.is_empty() { 0 } else { 9 * 3600 };
        Some((end - east) * 1_000_000)
    }
}

#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) title: &'static str,
    pub(super) version: u64,
    pub(super) is_there: bool,
}

/// All that one user has.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) tasks: Vec<Task>,
    /// The first is the default list.
    pub(super) lists: Vec<List>,
    /// The deleted tasks keep their places.
    pub(super) families: BTreeMap<Family, Vec<Number>>,
    pub(super) now: i64,
}

impl World {
    pub(super) fn new() -> Self {
        let default = List { title: "Tasks", version: 0, is_there: true };
        Self { tasks: Vec::new(), lists: vec![default], families: BTreeMap::new(), now: 0 }
    }

    pub(super) fn live(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_live()).count()
    }

    pub(super) fn has_list(&self, number: Number) -> bool {
        self.lists.get(number).is_some_and(|list| list.is_there)
    }

    pub(super) fn is_live(&self, number: Number) -> bool {
        self.tasks.get(number).is_some_and(Task::is_live)
    }

    /// Writes to a task.
    pub(super) fn touch(&mut self, number: Number) -> &mut Task {
        let now = self.now;
        let task = &mut self.tasks[number];
        (task.update_time, task.version) = (now, task.version + 1);
        task
    }

    /// A task that may be written to. The etag is as it was when the call was made, at `before`.
    fn find(&self, number: Number, etag: Etag, before: &Self) -> Result<Task, Reason> {
        let task = self.tasks.get(number).filter(|task| task.is_there(self.now)).ok_or("TASK_NOT_FOUND")?;
        let expected = match etag {
            Etag::None => Some(task.version),
            Etag::Current => before.tasks.get(number).map(|task| task.version),
            Etag::First => Some(0),
            Etag::Foreign => None,
        };
        if expected == Some(task.version) { Ok(task.clone()) } else { Err("ETAG_MISMATCH") }
    }

    fn find_live(&self, number: Number, etag: Etag, before: &Self) -> Result<Task, Reason> {
        if self.is_live(number) { self.find(number, etag, before) } else { Err("TASK_NOT_FOUND") }
    }

    /// All that are a part of a task, as far as they are still there.
    pub(super) fn parts(&self, number: Number) -> Vec<Number> {
        let is_part = |(_, task): &(Number, &Task)| task.parent == Some(number) && task.is_there(self.now);
        let children = self.tasks.iter().enumerate().filter(is_part);
        children.flat_map(|(child, _)| [vec![child], self.parts(child)].concat()).collect()
    }

    /// Does a write, and answers the task that it is about, if there is one.
    pub(super) fn write(&mut self, write: &Write, before: &Self) -> Result<Option<Number>, Reason> {
        match write {
            Write::Create(fields, list, parent) => self.create(fields, *list, *parent).map(Some),
            Write::Update(id, etag, fields, mask) => {
                self.find_live(*id, *etag, before)?;
                self.update(*id, fields, mask);
                Ok(Some(*id))
            }
            Write::Delete(id, etag, missing) => self.delete(*id, *etag, *missing, before),
            Write::Complete(id, etag) | Write::Reopen(id, etag) => {
                let (task, done) = (self.find_live(*id, *etag, before)?, matches!(write, Write::Complete(..)));
                if task.complete_time.is_some() != done {
                    self.touch(*id).complete_time = done.then_some(self.now);
                }
                Ok(Some(*id))
            }
            Write::Move { id, etag, list, parent, place } => {
                let task = self.find_live(*id, *etag, before)?;
                self.move_task(*id, &task, *list, *parent, *place).map(|()| Some(*id))
            }
        }
    }

    fn create(&mut self, fields: &Fields, list: Option<Number>, parent: Option<Number>) -> Result<Number, Reason> {
        let list = self.list_for(list, parent, 1)?;
        let number = self.tasks.len();
        let Fields { title, notes, priority, date, time, zone, ref labels } = *fields;
        self.tasks.push(Task {
            list,
            parent,
            title,
            notes,
            priority,
            date,
            time,
            zone,
            labels: labels.clone(),
            create_time: self.now,
            update_time: self.now,
            complete_time: None,
            delete_time: None,
            version: 0,
        });
        self.place_last(number, self.tasks[number].family());
        Ok(number)
    }

    fn update(&mut self, number: Number, fields: &Fields, mask: &Mask) {
        let is_set = |field: &str| match (mask, field) {
            (Mask::All, _) => true,
            (Mask::Of(paths), field) => paths.contains(&field),
            (Mask::None, "title") => !fields.title.is_empty(),
            (Mask::None, "notes") => !fields.notes.is_empty(),
            (Mask::None, "priority") => fields.priority != 0,
            (Mask::None, "due_date") => !fields.date.is_empty(),
            (Mask::None, "due_time") => fields.time.is_some(),
            (Mask::None, "time_zone") => !fields.zone.is_empty(),
            (Mask::None, _) => !fields.labels.is_empty(),
        };
        let all = ["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels"];
        if !all.iter().any(|field| is_set(field)) {
            return;
        }
        let task = self.touch(number);
        if is_set("title") {
            task.title = fields.title;
        }
        if is_set("notes") {
            task.notes = fields.notes;
        }
        if is_set("priority") {
            task.priority = fields.priority;
        }
        if is_set("due_date") {
            task.date = fields.date;
            task.time = task.time.filter(|_| fields.date.is_empty());
        }
        if is_set("due_time") {
            task.time = fields.time;
            task.date = if fields.time.is_some() { "" } else { task.date };
        }
        if is_set("time_zone") {
            task.zone = fields.zone;
        }
        if is_set("labels") {
            task.labels.clone_from(&fields.labels);
        }
    }

    fn delete(&mut self, id: Number, etag: Etag, missing: bool, before: &Self) -> Result<Option<Number>, Reason> {
        if missing && !self.is_live(id) {
            return Ok(Some(id).filter(|id| self.tasks.get(*id).is_some_and(|task| task.is_there(self.now))));
        }
        self.find_live(id, etag, before)?;
        for gone in [vec![id], self.parts(id)].concat() {
            if self.is_live(gone) {
                self.touch(gone).delete_time = Some(self.now);
            }
        }
        Ok(Some(id))
    }

    pub(super) fn undelete(&mut self, id: Number, etag: Etag, before: &Self) -> Result<Number, Reason> {
        let task = self.find(id, etag, before)?;
        let Some(delete_time) = task.delete_time else { return Ok(id) };
        let parts = self.parts(id);
        for part in [vec![id], parts.clone()].concat() {
            if self.tasks[part].delete_time == Some(delete_time) {
                self.touch(part).delete_time = None;
            }
        }
        let list = if self.has_list(task.list) { task.list } else { 0 };
        for part in [vec![id], parts].concat() {
            if self.tasks[part].list != list {
                self.touch(part).list = list;
            }
        }
        let parent = task.parent.filter(|parent| self.is_live(*parent));
        self.tasks[id].parent = parent;
        if self.tasks[id].family() != task.family() {
            self.place_last(id, self.tasks[id].family());
        }
        Ok(id)
    }
}
