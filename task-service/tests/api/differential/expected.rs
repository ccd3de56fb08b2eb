//! Executes calls on the model and returns the expected outcomes.

use std::collections::HashMap;

use service_kit::clock::Timestamp;
use taskey_proto::task::v1::{Task as PbTask, TaskList as PbList, task::State};
use tonic::Code;
use uuid::Uuid;

use super::{
    call::{Call, Etag, FIELDS, Fields, Mask, Number, Write, WriteMode},
    engine::Outcome,
    listing::Filter,
    model::{List, MAX_LISTS, MAX_TASKS, Model, RETENTION_MICROS, Reason},
    series::{Rule, Series},
};

pub(super) struct ModelEngine {
    pub(super) model: Model,
    owner: Uuid,
}

/// Returns the outcome without what the model does not predict: ranks, etags, error messages, the text of recurrences and
/// the times of lists.
pub(super) fn without_unmodeled_fields(outcome: &Outcome) -> Outcome {
    let task = |task: &PbTask| PbTask {
        rank: String::new(),
        etag: String::new(),
        recurrence_text: String::new(),
        ..task.clone()
    };
    let list = |list: &PbList| PbList {
        etag: String::new(),
        create_time: None,
        update_time: None,
        owner_id: String::new(),
        ..list.clone()
    };
    match outcome {
        Outcome::Tasks(tasks) => Outcome::Tasks(tasks.iter().map(task).collect()),
        Outcome::Lists(lists) => Outcome::Lists(lists.iter().map(list).collect()),
        Outcome::Refused(code, reason, ..) => Outcome::Refused(*code, reason.clone(), Vec::new(), String::new()),
    }
}

fn error(reason: Reason) -> Outcome {
    let code = match reason {
        "TASK_NOT_FOUND" | "LIST_NOT_FOUND" => Code::NotFound,
        "ETAG_MISMATCH" => Code::Aborted,
        "DEFAULT_LIST" | "TASK_NOT_RECURRING" => Code::FailedPrecondition,
        "QUOTA_EXCEEDED" => Code::ResourceExhausted,
        _ => Code::InvalidArgument,
    };
    Outcome::Refused(code, reason.to_owned(), Vec::new(), String::new())
}

impl ModelEngine {
    pub(super) fn new(owner: Uuid) -> Self {
        Self { model: Model::new(), owner }
    }

    /// Executes a call and returns the expected outcome. Of the engines' tasks, only the ranks are used.
    pub(super) fn execute(&mut self, call: &Call, now: Timestamp, engine_tasks: &[PbTask]) -> Outcome {
        self.model.now = now.as_micros();
        self.model.touched.clear();
        self.model.completed_last.clear();
        let before = self.model.clone();
        let (outcome, is_committed) = match call {
            Call::Single(write, mode) => {
                (self.execute_writes(std::slice::from_ref(write), *mode), *mode != WriteMode::DryRun)
            }
            Call::Batch(writes, mode) => (self.execute_writes(writes, *mode), *mode != WriteMode::DryRun),
            Call::Undelete(id, etag) => {
                let result = self.model.undelete(*id, *etag, &before);
                (result.and_then(|id| self.check_quota(&before).map(|()| Outcome::Tasks(vec![self.task(id)]))), true)
            }
            Call::CreateList(title, mode) => (self.create_list(title, *mode), *mode != WriteMode::DryRun),
            Call::RenameList(id, etag, title) => (self.rename_list(*id, *etag, title), true),
            Call::DeleteList(id, _, Some(to)) if id == to => (Err("VALIDATION_FAILED"), true),
            Call::DeleteList(id, etag, to) => {
                let result = self.model.delete_list(*id, *etag, *to);
                (result.map(|()| Outcome::Lists(vec![self.list(*id)])), true)
            }
            Call::ListTasks(listing) if listing.filter.as_ref().is_some_and(Filter::is_malformed) => {
                (Err("FILTER_INVALID"), true)
            }
            Call::ListTasks(listing) => {
                let ranks: HashMap<_, _> =
                    engine_tasks.iter().map(|task| (task.id.clone(), task.rank.clone())).collect();
                let rank = |number: Number| ranks.get(&number.to_string()).cloned().unwrap_or_default();
                let numbers = listing.expected_numbers(&self.model, self.model.now, &rank);
                (Ok(Outcome::Tasks(numbers.into_iter().map(|number| self.task(number)).collect())), true)
            }
            Call::ListLists(_) => {
                let mut lists = self.lists();
                // Newest first. The default list has the id of the user, which is older.
                lists.reverse();
                (Ok(Outcome::Lists(lists)), true)
            }
            Call::Wait(_) => (Ok(Outcome::Tasks(Vec::new())), true),
        };
        if outcome.is_err() || !is_committed {
            self.model = before;
        }
        outcome.unwrap_or_else(error)
    }

    fn execute_writes(&mut self, writes: &[Write], mode: WriteMode) -> Result<Outcome, Reason> {
        if !writes.iter().all(is_valid) {
            return Err("VALIDATION_FAILED");
        }
        let before = self.model.clone();
        let mut tasks = Vec::new();
        for write in writes {
            let previous = self.model.clone();
            let task = self.model.write(write, &before)?.map(|number| self.task(number)).unwrap_or_default();
            self.check_quota(&previous)?;
            let is_new = mode == WriteMode::DryRun && matches!(write, Write::Create(..));
            let mut task = if is_new { PbTask { id: "new".to_owned(), ..task } } else { task };
            let next: Option<Number> = task.next_task_id.parse().ok();
            if mode == WriteMode::DryRun && next.is_some_and(|next| next >= before.tasks.len()) {
                "new".clone_into(&mut task.next_task_id);
            }
            tasks.push(task);
        }
        Ok(Outcome::Tasks(tasks))
    }

    fn check_quota(&self, previous: &Model) -> Result<(), Reason> {
        let (active, was_active) = (self.model.active_count(), previous.active_count());
        if active > was_active && active > MAX_TASKS { Err("QUOTA_EXCEEDED") } else { Ok(()) }
    }

    fn create_list(&mut self, title: &'static str, mode: WriteMode) -> Result<Outcome, Reason> {
        if title.is_empty() {
            return Err("VALIDATION_FAILED");
        }
        self.model.lists.push(List { title, version: 0, exists: true });
        if self.model.lists.iter().filter(|list| list.exists).count() > MAX_LISTS {
            return Err("QUOTA_EXCEEDED");
        }
        let list = self.list(self.model.lists.len() - 1);
        let id = if mode == WriteMode::DryRun { "new".to_owned() } else { list.id };
        Ok(Outcome::Lists(vec![PbList { id, ..list }]))
    }

    fn rename_list(&mut self, id: Number, etag: Etag, title: &'static str) -> Result<Outcome, Reason> {
        if title == "\0" {
            return Err("VALIDATION_FAILED");
        }
        let list = self.model.lists.get_mut(id).filter(|list| list.exists).ok_or("LIST_NOT_FOUND")?;
        if matches!(etag, Etag::Invalid) || (matches!(etag, Etag::Initial) && list.version > 0) {
            return Err("ETAG_MISMATCH");
        }
        (list.title, list.version) = (title, list.version + 1);
        Ok(Outcome::Lists(vec![self.list(id)]))
    }

    /// Returns all existing lists in the order of creation.
    pub(super) fn lists(&self) -> Vec<PbList> {
        let lists = self.model.lists.iter().enumerate().filter(|(_, list)| list.exists);
        lists.map(|(number, _)| self.list(number)).collect()
    }

    /// Returns all existing tasks in the order of creation.
    pub(super) fn tasks(&self) -> Vec<PbTask> {
        let tasks = self.model.tasks.iter().enumerate().filter(|(_, task)| task.exists(self.model.now));
        tasks.map(|(number, _)| self.task(number)).collect()
    }

    /// Returns siblings whose ranks are not in the expected order, if any.
    pub(super) fn misordered_siblings(&self, engine_tasks: &[PbTask]) -> Option<String> {
        let ranks: HashMap<_, _> = engine_tasks.iter().map(|task| (task.id.clone(), &task.rank)).collect();
        let in_order = |siblings: &&Vec<Number>| {
            siblings.iter().filter_map(|number| ranks.get(&number.to_string())).is_sorted_by(|one, other| one < other)
        };
        self.model.sibling_groups.values().find(|siblings| !in_order(siblings)).map(|siblings| format!("{siblings:?}"))
    }

    fn task(&self, number: Number) -> PbTask {
        let time = |micros: i64| Timestamp::from_micros(micros).into();
        let task = &self.model.tasks[number];
        let next = task.series.as_ref().and_then(|series| series.next);
        let state = if task.complete_time.is_some() { State::Completed } else { State::Open };
        PbTask {
            id: number.to_string(),
            title: task.title.to_owned(),
            notes: task.notes.to_owned(),
            state: state.into(),
            priority: task.priority,
            due_date: task.date.clone(),
            due_time: task.time.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            owner_id: self.owner.to_string(),
            create_time: Some(time(task.create_time)),
            update_time: Some(time(task.update_time)),
            complete_time: task.complete_time.map(time),
            delete_time: task.delete_time.map(time),
            purge_time: task.delete_time.map(|at| time(at + RETENTION_MICROS)),
            list_id: task.list.to_string(),
            parent_id: task.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            time_zone: task.zone.to_owned(),
            labels: task.labels.iter().map(|label| (*label).to_owned()).collect(),
            recurrence: task.series.as_ref().map(Series::recurrence),
            occurrence_date: task.series.as_ref().map(Series::date).unwrap_or_default(),
            next_task_id: next.map(|next| next.to_string()).unwrap_or_default(),
            ..PbTask::default()
        }
    }

    fn list(&self, number: Number) -> PbList {
        let title = self.model.lists[number].title.to_owned();
        PbList { id: number.to_string(), title, is_default: number == 0, ..PbList::default() }
    }
}

/// Reports whether a write is valid regardless of the stored tasks.
fn is_valid(write: &Write) -> bool {
    match write {
        Write::Create(fields, ..) => {
            is_valid_title(fields)
                && are_other_fields_valid(fields, |_| true)
                && (fields.date.is_empty() || fields.time.is_none())
        }
        Write::Update(_, _, fields, Mask::None, _) => {
            (fields.title.is_empty() || is_valid_title(fields))
                && are_other_fields_valid(fields, |_| true)
                && (fields.date.is_empty() || fields.time.is_none())
        }
        Write::Update(_, _, fields, mask, _) => {
            let is_written = |field: &str| match mask {
                Mask::Paths(paths) => paths.contains(&field),
                _ => true,
            };
            let all_paths_are_valid =
                !matches!(mask, Mask::Paths(paths) if paths.iter().any(|path| !FIELDS.contains(path)));
            let has_date_and_time =
                is_written("due_date") && is_written("due_time") && !fields.date.is_empty() && fields.time.is_some();
            all_paths_are_valid
                && (!is_written("title") || is_valid_title(fields))
                && are_other_fields_valid(fields, is_written)
                && !has_date_and_time
        }
        _ => true,
    }
}

fn is_valid_title(fields: &Fields) -> bool {
    !fields.title.trim().is_empty() && !fields.title.contains('\n')
}

fn are_other_fields_valid(fields: &Fields, is_written: impl Fn(&str) -> bool) -> bool {
    let labels_are_valid = ![&["a", "a"][..], &[" "], &["home", "Home"]].contains(&&fields.labels[..]);
    (!is_written("priority") || fields.priority <= 3)
        && (!is_written("due_date") || !["2026-02-30", "soon"].contains(&fields.date))
        && (!is_written("time_zone") || fields.zone != "Nowhere")
        && (!is_written("labels") || labels_are_valid)
        && (!is_written("recurrence") || fields.rule.is_none_or(Rule::is_valid))
}
