//! The model as an engine: what it answers to calls.

use std::collections::HashMap;

use service_kit::clock::Timestamp;
use taskey_proto::task::v1::{Task as PbTask, TaskList as PbList, task::State};
use tonic::Code;
use uuid::Uuid;

use super::{
    call::{Call, Etag, Fields, Mask, Mode, Number, Place, Write},
    engine::Answer,
    listing::Filter,
    model::{KEPT, List, MAX_LISTS, MAX_TASKS, Reason, World},
};

/// No task and no list has it.
const NONE: Number = 9999;

pub(super) struct Expected {
    world: World,
    owner: Uuid,
}

/// An answer without what the model does not know: ranks, etags, the texts of refusals, the times of lists.
pub(super) fn plain(answer: &Answer) -> Answer {
    let task = |task: &PbTask| PbTask { rank: String::new(), etag: String::new(), ..task.clone() };
    let list = |list: &PbList| PbList {
        etag: String::new(),
        create_time: None,
        update_time: None,
        owner_id: String::new(),
        ..list.clone()
    };
    match answer {
        Answer::Tasks(tasks) => Answer::Tasks(tasks.iter().map(task).collect()),
        Answer::Lists(lists) => Answer::Lists(lists.iter().map(list).collect()),
        Answer::Refused(code, reason, ..) => Answer::Refused(*code, reason.clone(), Vec::new(), String::new()),
    }
}

fn refused(reason: Reason) -> Answer {
    let code = match reason {
        "TASK_NOT_FOUND" | "LIST_NOT_FOUND" => Code::NotFound,
        "ETAG_MISMATCH" => Code::Aborted,
        "DEFAULT_LIST" => Code::FailedPrecondition,
        "QUOTA_EXCEEDED" => Code::ResourceExhausted,
        _ => Code::InvalidArgument,
    };
    Answer::Refused(code, reason.to_owned(), Vec::new(), String::new())
}

impl Expected {
    pub(super) fn new(owner: Uuid) -> Self {
        Self { world: World::new(), owner }
    }

    /// The call with names that do not depend on what it does itself: what is made by it is not known yet.
    pub(super) fn resolve(&self, call: Call) -> Call {
        let World { tasks, lists, .. } = &self.world;
        let task = |number: Number| if number < tasks.len() { number } else { NONE };
        let list = |number: Number| if number < lists.len() { number } else { NONE };
        let write = |write| match write {
            Write::Create(fields, into, parent) => Write::Create(fields, into.map(list), parent.map(task)),
            Write::Update(id, etag, fields, mask) => Write::Update(task(id), etag, fields, mask),
            Write::Delete(id, etag, missing) => Write::Delete(task(id), etag, missing),
            Write::Complete(id, etag) => Write::Complete(task(id), etag),
            Write::Reopen(id, etag) => Write::Reopen(task(id), etag),
            Write::Move { id, etag, list: into, parent, place } => {
                let into = into.map(list);
                let place = match place {
                    Place::Before(anchor) => Place::Before(task(anchor)),
                    Place::After(anchor) => Place::After(task(anchor)),
                    place => place,
                };
                Write::Move { id: task(id), etag, list: into, parent: parent.map(task), place }
            }
        };
        match call {
            Call::One(one, mode) => Call::One(write(one), mode),
            Call::Batch(writes, mode) => Call::Batch(writes.into_iter().map(write).collect(), mode),
            Call::Undelete(id, etag) => Call::Undelete(task(id), etag),
            Call::Rename(id, etag, title) => Call::Rename(list(id), etag, title),
            Call::DropList(id, etag, to) => Call::DropList(list(id), etag, to.map(list)),
            call => call,
        }
    }

    /// What the call is answered at this moment. Of what the engines hold by now, only the ranks are looked at.
    pub(super) fn answer(&mut self, call: &Call, now: Timestamp, held: &[PbTask]) -> Answer {
        self.world.now = now.as_micros();
        let before = self.world.clone();
        let (answer, keeps) = match call {
            Call::One(write, mode) => (self.writes(std::slice::from_ref(write), *mode), *mode != Mode::Tried),
            Call::Batch(writes, mode) => (self.writes(writes, *mode), *mode != Mode::Tried),
            Call::Undelete(id, etag) => {
                let done = self.world.undelete(*id, *etag, &before);
                (done.and_then(|id| self.check_quota(&before).map(|()| Answer::Tasks(vec![self.task(id)]))), true)
            }
            Call::MakeList(title, mode) => (self.make_list(title, *mode), *mode != Mode::Tried),
            Call::Rename(id, etag, title) => (self.rename(*id, *etag, title), true),
            Call::DropList(id, _, Some(to)) if id == to => (Err("VALIDATION_FAILED"), true),
            Call::DropList(id, etag, to) => {
                let done = self.world.drop_list(*id, *etag, *to);
                (done.map(|()| Answer::Lists(vec![self.list(*id)])), true)
            }
            Call::Show(listing) if listing.filter.as_ref().is_some_and(Filter::is_broken) => {
                (Err("FILTER_INVALID"), true)
            }
            Call::Show(listing) => {
                let ranks: HashMap<_, _> = held.iter().map(|task| (task.id.clone(), task.rank.clone())).collect();
                let rank = |number: Number| ranks.get(&number.to_string()).cloned().unwrap_or_default();
                let numbers = listing.numbers(&self.world, self.world.now, &rank);
                (Ok(Answer::Tasks(numbers.into_iter().map(|number| self.task(number)).collect())), true)
            }
            Call::ShowLists(_) => {
                let lists = self.world.lists.iter().enumerate().filter(|(_, list)| list.is_there);
                let mut lists: Vec<_> = lists.map(|(number, _)| self.list(number)).collect();
                // The newest first. The default list has the id of the user, who is older.
                lists.reverse();
                (Ok(Answer::Lists(lists)), true)
            }
            Call::Wait(_) => (Ok(Answer::Tasks(Vec::new())), true),
        };
        if answer.is_err() || !keeps {
            self.world = before;
        }
        answer.unwrap_or_else(refused)
    }

    fn writes(&mut self, writes: &[Write], mode: Mode) -> Result<Answer, Reason> {
        if !writes.iter().all(is_valid) {
            return Err("VALIDATION_FAILED");
        }
        let before = self.world.clone();
        let mut tasks = Vec::new();
        for write in writes {
            let last = self.world.clone();
            let task = self.world.write(write, &before)?.map(|number| self.task(number)).unwrap_or_default();
            self.check_quota(&last)?;
            let is_new = mode == Mode::Tried && matches!(write, Write::Create(..));
            tasks.push(if is_new { PbTask { id: "new".to_owned(), ..task } } else { task });
        }
        Ok(Answer::Tasks(tasks))
    }

    fn check_quota(&self, last: &World) -> Result<(), Reason> {
        let (live, was_live) = (self.world.live(), last.live());
        if live > was_live && live > MAX_TASKS { Err("QUOTA_EXCEEDED") } else { Ok(()) }
    }

    fn make_list(&mut self, title: &'static str, mode: Mode) -> Result<Answer, Reason> {
        if title.is_empty() {
            return Err("VALIDATION_FAILED");
        }
        self.world.lists.push(List { title, version: 0, is_there: true });
        if self.world.lists.iter().filter(|list| list.is_there).count() > MAX_LISTS {
            return Err("QUOTA_EXCEEDED");
        }
        let list = self.list(self.world.lists.len() - 1);
        let id = if mode == Mode::Tried { "new".to_owned() } else { list.id };
        Ok(Answer::Lists(vec![PbList { id, ..list }]))
    }

    fn rename(&mut self, id: Number, etag: Etag, title: &'static str) -> Result<Answer, Reason> {
        if title == "\0" {
            return Err("VALIDATION_FAILED");
        }
        let list = self.world.lists.get_mut(id).filter(|list| list.is_there).ok_or("LIST_NOT_FOUND")?;
        if matches!(etag, Etag::Foreign) || (matches!(etag, Etag::First) && list.version > 0) {
            return Err("ETAG_MISMATCH");
        }
        (list.title, list.version) = (title, list.version + 1);
        Ok(Answer::Lists(vec![self.list(id)]))
    }

    /// All tasks that are there, in the order in which they were made.
    pub(super) fn tasks(&self) -> Vec<PbTask> {
        let tasks = self.world.tasks.iter().enumerate().filter(|(_, task)| task.is_there(self.world.now));
        tasks.map(|(number, _)| self.task(number)).collect()
    }

    /// Siblings that are not in the order of their ranks, if there are any.
    pub(super) fn disorder(&self, held: &[PbTask]) -> Option<String> {
        let ranks: HashMap<_, _> = held.iter().map(|task| (task.id.clone(), &task.rank)).collect();
        let in_order = |siblings: &&Vec<Number>| {
            siblings.iter().filter_map(|number| ranks.get(&number.to_string())).is_sorted_by(|one, other| one < other)
        };
        self.world.families.values().find(|siblings| !in_order(siblings)).map(|siblings| format!("{siblings:?}"))
    }

    fn task(&self, number: Number) -> PbTask {
        let time = |micros: i64| Timestamp::from_micros(micros).into();
        let task = &self.world.tasks[number];
        let state = if task.complete_time.is_some() { State::Completed } else { State::Open };
        PbTask {
            id: number.to_string(),
            title: task.title.to_owned(),
            notes: task.notes.to_owned(),
            state: state.into(),
            priority: task.priority,
            due_date: task.date.to_owned(),
            due_time: task.time.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            owner_id: self.owner.to_string(),
            create_time: Some(time(task.create_time)),
            update_time: Some(time(task.update_time)),
            complete_time: task.complete_time.map(time),
            delete_time: task.delete_time.map(time),
            purge_time: task.delete_time.map(|at| time(at + KEPT)),
            list_id: task.list.to_string(),
            parent_id: task.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            time_zone: task.zone.to_owned(),
            labels: task.labels.iter().map(|label| (*label).to_owned()).collect(),
            ..PbTask::default()
        }
    }

    fn list(&self, number: Number) -> PbList {
        let title = self.world.lists[number].title.to_owned();
        PbList { id: number.to_string(), title, is_default: number == 0, ..PbList::default() }
    }
}

/// Whether the fields of a write are good by themselves.
fn is_valid(write: &Write) -> bool {
    match write {
        Write::Create(fields, ..) => {
            good_title(fields) && good_others(fields, |_| true) && (fields.date.is_empty() || fields.time.is_none())
        }
        Write::Update(_, _, fields, Mask::None) => {
            (fields.title.is_empty() || good_title(fields))
                && good_others(fields, |_| true)
                && (fields.date.is_empty() || fields.time.is_none())
        }
        Write::Update(_, _, fields, mask) => {
            let known = ["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels"];
            let named = |field: &str| match mask {
                Mask::Of(paths) => paths.contains(&field),
                _ => true,
            };
            let only_known = !matches!(mask, Mask::Of(paths) if paths.iter().any(|path| !known.contains(path)));
            let both = named("due_date") && named("due_time") && !fields.date.is_empty() && fields.time.is_some();
            only_known && (!named("title") || good_title(fields)) && good_others(fields, named) && !both
        }
        _ => true,
    }
}

fn good_title(fields: &Fields) -> bool {
    !fields.title.trim().is_empty() && !fields.title.contains('\n')
}

fn good_others(fields: &Fields, counts: impl Fn(&str) -> bool) -> bool {
    let good_labels = fields.labels != ["a", "a"] && fields.labels != [" "];
    (!counts("priority") || fields.priority <= 3)
        && (!counts("due_date") || !["2026-02-30", "soon"].contains(&fields.date))
        && (!counts("time_zone") || fields.zone != "Nowhere")
        && (!counts("labels") || good_labels)
}
