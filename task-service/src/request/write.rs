//! Parses writes to tasks, except updates.

use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{
    AcknowledgeReminderRequest, CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, MoveTaskRequest,
    SnoozeReminderRequest, move_task_request::Position as PbPosition,
};

use super::{MISSING, validator::RequestValidator};
use crate::model::{
    field::{self, Labels, Notes, Priority, Title},
    recurrence::{Recurrence, SearchBudget, SeriesState, Slot, missing_slot},
    write::{Move, NewTask, Position, Write},
};

/// Parses a single write, outside of a batch.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub(crate) fn parse(
    parse_write: impl FnOnce(&mut RequestValidator<'_>) -> Option<Write>,
) -> Result<Vec<Write>, ApiError> {
    let mut violations = Violations::default();
    let mut searches = SearchBudget::default();
    let mut validator = RequestValidator { violations: &mut violations, prefix: "", searches: &mut searches };
    let write = parse_write(&mut validator);
    violations.finish(write.map(|write| vec![write]))
}

/// Parses a creation. Fields that the server sets are ignored (AIP-203).
pub(crate) fn create(request: CreateTaskRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    create_in_series(request, None, validator)
}

/// Parses the creation of a task that continues a series, unless it begins one.
pub(crate) fn create_in_series(
    request: CreateTaskRequest,
    series: Option<&SeriesState>,
    validator: &mut RequestValidator<'_>,
) -> Option<Write> {
    let id = validator.check("task_id", field::optional_id(&request.task_id));
    let task = validator.check("task", request.task.ok_or(MISSING))?;
    let title = validator.check("task.title", Title::try_from(task.title));
    let notes = validator.check("task.notes", Notes::try_from(task.notes));
    let priority = validator.check("task.priority", Priority::try_from(task.priority));
    let due_date = validator.check("task.due_date", field::due_date(&task.due_date));
    let due_time = validator.check("task.due_time", field::due_time(task.due_time));
    let time_zone = validator.check("task.time_zone", field::time_zone(task.time_zone));
    let labels = validator.check("task.labels", Labels::try_from(task.labels));
    let list_id = validator.check("task.list_id", field::optional_id(&task.list_id));
    let parent_id = validator.check("task.parent_id", field::optional_id(&task.parent_id));
    let reminders = validator.reminders(&task.reminders);
    if series.is_some() && task.recurrence.is_none() {
        validator.add("task.series", "requires a recurrence");
    }
    let recurrence = task.recurrence.and_then(|recurrence| validator.recurrence(&recurrence, |_| true).apply(None));
    let (due_date, due_time, time_zone) = (due_date?, due_time?, time_zone?);
    if due_date.is_some() && due_time.is_some() {
        validator.add_both_due();
    }
    if let Some(recurrence) = &recurrence {
        match Slot::from_due(due_date, due_time, &time_zone) {
            Some(slot) => check_recurrence(recurrence, slot, &time_zone, series, validator),
            None => validator.add("task.recurrence", missing_slot(due_time)),
        }
    }
    Some(Write::Create(NewTask {
        id: id?,
        title: title?,
        notes: notes?,
        priority: priority?,
        due_date,
        due_time,
        time_zone,
        labels: labels?,
        list_id: list_id?,
        parent_id: parent_id?,
        recurrence,
        reminders: reminders?,
        imported: None,
    }))
}

/// Checks the recurrence of a task that is due at `slot` in a time zone, from the anchor of its series.
fn check_recurrence(
    recurrence: &Recurrence,
    slot: Slot,
    zone: &str,
    series: Option<&SeriesState>,
    validator: &mut RequestValidator<'_>,
) {
    let (anchor, zone) = match series {
        None => (slot, zone),
        Some(series) => {
            validator.check("task.series", series.check());
            (series.anchor, series.originals.time_zone.as_deref().unwrap_or(zone))
        }
    };
    let checked = recurrence.check(anchor, zone, validator.searches);
    validator.check("task.recurrence.rrule", checked);
}

/// Parses a deletion.
pub(crate) fn delete(request: &DeleteTaskRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    let target = validator.target("id", &request.id, &request.etag)?;
    Some(Write::Delete { target, allow_missing: request.allow_missing })
}

/// Parses a completion.
pub(crate) fn complete(request: &CompleteTaskRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    let target = validator.target("id", &request.id, &request.etag)?;
    Some(Write::Complete { target, include_subtasks: request.include_subtasks })
}

/// Parses a move.
pub(crate) fn move_task(request: &MoveTaskRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    let target = validator.target("id", &request.id, &request.etag);
    let list_id = validator.check("list_id", field::optional_id(&request.list_id));
    let parent_id = validator.check("parent_id", field::optional_id(&request.parent_id));
    let position = match &request.position {
        Some(PbPosition::BeforeId(id)) => validator.check("before_id", field::id(id)).map(Position::Before),
        Some(PbPosition::AfterId(id)) => validator.check("after_id", field::id(id)).map(Position::After),
        Some(PbPosition::First(true)) => Some(Position::First),
        Some(PbPosition::First(false) | PbPosition::Last(_)) | None => Some(Position::Last),
    };
    Some(Write::Move(Move { target: target?, list_id: list_id?, parent_id: parent_id?, position: position? }))
}

/// Parses a snooze.
pub(crate) fn snooze(request: &SnoozeReminderRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    let target = validator.target("task_id", &request.task_id, &request.etag);
    let reminder_id = validator.check("reminder_id", field::id(&request.reminder_id));
    let time = field::due_time(request.remind_time).and_then(|time| time.ok_or(MISSING));
    let time = validator.check("remind_time", time);
    Some(Write::Snooze { target: target?, reminder_id: reminder_id?, time: time? })
}

/// Parses an acknowledgement.
pub(crate) fn acknowledge(request: &AcknowledgeReminderRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
    let target = validator.target("task_id", &request.task_id, &request.etag);
    let reminder_id = validator.check("reminder_id", field::id(&request.reminder_id));
    Some(Write::Acknowledge { target: target?, reminder_id: reminder_id? })
}
