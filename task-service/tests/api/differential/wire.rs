//! Converts the writes of a sequence to requests with the ids of one engine.

use taskey_proto::task::v1::{
    CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, MoveTaskRequest, Recurrence, ReopenTaskRequest,
    SkipOccurrenceRequest, StopRecurrenceRequest, Task, UpdateTaskRequest,
    batch_write_tasks_request::write::Write as Kind, move_task_request::Position,
};

use super::{
    call::{Etag, Fields, Mask, Number, Placement, Write},
    engine::Engine,
};
use crate::support::with_revision;

/// An id that no task or list has.
const UNKNOWN: &str = "0198c0de-0000-7000-8000-000000000000";

impl Engine {
    /// Returns the write as part of a batch.
    pub(super) fn to_proto(&self, write: &Write) -> Kind {
        match write {
            Write::Create(fields, list, parent) => {
                let list_id = list.map(|list| self.list_id(list)).unwrap_or_default();
                let parent_id = parent.map(|parent| self.task_id(parent)).unwrap_or_default();
                let task = Some(Task { list_id, parent_id, ..to_task(fields) });
                Kind::Create(CreateTaskRequest { task, ..CreateTaskRequest::default() })
            }
            Write::Update(id, etag, fields, mask, scope) => {
                let (id, etag) = self.target(*id, *etag);
                let paths = match mask {
                    Mask::None => None,
                    Mask::All => Some(vec!["*".to_owned()]),
                    Mask::Paths(paths) => Some(paths.iter().map(|path| (*path).to_owned()).collect()),
                };
                let update_mask = paths.map(|paths| prost_types::FieldMask { paths });
                let task = Some(Task { id, etag, ..to_task(fields) });
                let scope = (*scope).into();
                Kind::Update(UpdateTaskRequest { task, update_mask, scope, ..UpdateTaskRequest::default() })
            }
            Write::Delete(id, etag, allow_missing) => {
                let (id, etag) = self.target(*id, *etag);
                let allow_missing = *allow_missing;
                Kind::Delete(DeleteTaskRequest { id, etag, allow_missing, ..DeleteTaskRequest::default() })
            }
            Write::Complete(id, etag, include_subtasks) => {
                let (id, etag) = self.target(*id, *etag);
                let include_subtasks = *include_subtasks;
                Kind::Complete(CompleteTaskRequest { id, etag, include_subtasks, ..CompleteTaskRequest::default() })
            }
            Write::Reopen(id, etag) => {
                let (id, etag) = self.target(*id, *etag);
                Kind::Reopen(ReopenTaskRequest { id, etag, ..ReopenTaskRequest::default() })
            }
            Write::Move { id, etag, list, parent, placement } => {
                let (id, etag) = self.target(*id, *etag);
                let list_id = list.map(|list| self.list_id(list)).unwrap_or_default();
                let parent_id = parent.map(|parent| self.task_id(parent)).unwrap_or_default();
                let position = match placement {
                    Placement::First => Some(Position::First(true)),
                    Placement::Last => Some(Position::Last(true)),
                    Placement::Unspecified => None,
                    Placement::Before(anchor) => Some(Position::BeforeId(self.task_id(*anchor))),
                    Placement::After(anchor) => Some(Position::AfterId(self.task_id(*anchor))),
                };
                Kind::Move(MoveTaskRequest { id, etag, list_id, parent_id, position, ..MoveTaskRequest::default() })
            }
            Write::SkipOccurrence(id, etag) => {
                let (id, etag) = self.target(*id, *etag);
                Kind::SkipOccurrence(SkipOccurrenceRequest { id, etag, ..SkipOccurrenceRequest::default() })
            }
            Write::StopRecurrence(id, etag) => {
                let (id, etag) = self.target(*id, *etag);
                Kind::StopRecurrence(StopRecurrenceRequest { id, etag, ..StopRecurrenceRequest::default() })
            }
        }
    }

    pub(super) fn task_id(&self, number: Number) -> String {
        self.task_ids.get(number).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
    }

    pub(super) fn list_id(&self, number: Number) -> String {
        self.list_ids.get(number).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
    }

    pub(super) fn target(&self, number: Number, etag: Etag) -> (String, String) {
        let id = self.task_id(number);
        let current = self.copy.tasks.get(&id).map_or(UNKNOWN_ETAG, |task| &task.etag);
        let etag = etag_text(etag, current);
        (id, etag)
    }
}

/// The etag for a task or list that does not exist.
pub(super) const UNKNOWN_ETAG: &str = "\"1.0000000000000000.1\"";

pub(super) fn etag_text(etag: Etag, current: &str) -> String {
    match etag {
        Etag::None => String::new(),
        Etag::Current => current.to_owned(),
        Etag::Initial => with_revision(current, 1),
        Etag::Invalid => "\"x\"".to_owned(),
    }
}

fn to_task(fields: &Fields) -> Task {
    Task {
        title: fields.title.to_owned(),
        notes: fields.notes.to_owned(),
        priority: fields.priority,
        due_date: fields.date.to_owned(),
        due_time: fields.time.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        time_zone: fields.zone.to_owned(),
        labels: fields.labels.iter().map(|label| (*label).to_owned()).collect(),
        recurrence: fields.rule.map(|rule| Recurrence { rrule: rule.text.to_owned(), ..Recurrence::default() }),
        ..Task::default()
    }
}
