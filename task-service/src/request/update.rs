//! Parses updates of tasks, which change single fields.

use std::sync::LazyLock;

use jiff::civil::Date;
use service_kit::{clock::Timestamp, epoch::Epoch, update_mask::ReadOnlyFields};
use taskey_proto::task::v1::{Recurrence, Task, UpdateTaskRequest, update_task_request::Scope};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::{
    MISSING,
    validator::{RECURRENCE_FIELDS, RequestValidator},
};
use crate::{
    model::{
        field::{self, FieldError, Labels, Notes, Priority, Title},
        recurrence::RecurrenceUpdate,
        write::{Change, RepeatedFields, TaskUpdate, UpdateScope, Write},
    },
    response,
};

/// The fields that an update can change: all except those that the server sets, and the list, parent and rank.
const UPDATABLE: [&str; 9] =
    ["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels", "recurrence", "reminders"];

/// Takes the fields from an update that only repeat the current values, see [`service_kit::update_mask`].
pub(crate) fn split_off_repeated(metadata: &MetadataMap, request: &mut UpdateTaskRequest) -> RepeatedFields {
    static READ_ONLY: LazyLock<ReadOnlyFields> = LazyLock::new(|| ReadOnlyFields::of("taskey.task.v1.Task", "task"));
    let UpdateTaskRequest { task, update_mask, .. } = request;
    let repeated = READ_ONLY.split_off(metadata, update_mask.as_mut(), task.as_ref());
    if repeated.is_empty() {
        return RepeatedFields::default();
    }
    // The etag is not among the fields, so its epoch does not matter.
    let epoch = Epoch::from(Uuid::nil());
    RepeatedFields::new(move |row| repeated.first_difference(&response::task(row.clone(), epoch)))
}

/// Parses an update. Fields that the mask does not name are ignored.
pub(crate) fn update(
    request: UpdateTaskRequest,
    repeated: RepeatedFields,
    validator: &mut RequestValidator<'_>,
) -> Option<Write> {
    let task = validator.check("task", request.task.ok_or(MISSING))?;
    let paths = request.update_mask.unwrap_or_default().paths;
    let fields = validator.check("update_mask", updated_fields(&paths, &task)).unwrap_or_default();
    let target = validator.target("task.id", &task.id, &task.etag);

    let is_updated = |field| fields.contains(&field);
    let title = is_updated("title").then(|| validator.check("task.title", Title::try_from(task.title)));
    let notes = is_updated("notes").then(|| validator.check("task.notes", Notes::try_from(task.notes)));
    let priority = is_updated("priority").then(|| validator.check("task.priority", Priority::try_from(task.priority)));
    let due_date = is_updated("due_date").then(|| validator.check("task.due_date", field::due_date(&task.due_date)));
    let due_time = is_updated("due_time").then(|| validator.check("task.due_time", field::due_time(task.due_time)));
    let due_date = due_date.flatten().map_or(Change::Keep, Change::from_option);
    let due_time = due_time.flatten().map_or(Change::Keep, Change::from_option);
    let time_zone =
        is_updated("time_zone").then(|| validator.check("task.time_zone", field::time_zone(task.time_zone)));
    let labels = is_updated("labels").then(|| validator.check("task.labels", Labels::try_from(task.labels)));
    let recurrence = recurrence_change(task.recurrence, &fields, validator);
    let scope = validator.check("scope", update_scope(request.scope));
    let reminders = is_updated("reminders").then(|| validator.reminders(&task.reminders));
    let (due_date, due_time) = resolve_due(validator, due_date, due_time);
    // Invalid fields are `None` here. Their violations prevent the update from being executed.
    Some(Write::Update(TaskUpdate {
        target: target?,
        title: title.flatten(),
        notes: notes.flatten(),
        priority: priority.flatten(),
        due_date,
        due_time,
        time_zone: time_zone.flatten(),
        labels: labels.flatten(),
        reminders: reminders.flatten(),
        repeated,
        recurrence,
        scope: scope?,
    }))
}

/// Returns the change of the recurrence by an update of these fields.
fn recurrence_change(
    message: Option<Recurrence>,
    fields: &[&str],
    validator: &mut RequestValidator<'_>,
) -> Change<RecurrenceUpdate> {
    let is_whole = fields.contains(&"recurrence");
    match message {
        None if is_whole => Change::Clear,
        _ if !is_whole && !RECURRENCE_FIELDS.iter().any(|field| fields.contains(field)) => Change::Keep,
        message => {
            let is_set = |field: &str| is_whole || fields.contains(&field);
            Change::Set(validator.recurrence(&message.unwrap_or_default(), is_set))
        }
    }
}

fn update_scope(scope: i32) -> Result<UpdateScope, FieldError> {
    match Scope::try_from(scope) {
        Ok(Scope::Unspecified) => Ok(UpdateScope::Unspecified),
        Ok(Scope::This) => Ok(UpdateScope::This),
        Ok(Scope::Following) => Ok(UpdateScope::Following),
        Err(_) => Err("is not a known scope"),
    }
}

/// Returns the fields that an update changes: those that the mask names or, without a mask, those that are set
/// (AIP-134).
fn updated_fields(paths: &[String], task: &Task) -> Result<Vec<&'static str>, String> {
    if paths.is_empty() {
        // In the order of `UPDATABLE`.
        let are_set = [
            !task.title.is_empty(),
            !task.notes.is_empty(),
            task.priority != 0,
            !task.due_date.is_empty(),
            task.due_time.is_some(),
            !task.time_zone.is_empty(),
            !task.labels.is_empty(),
            task.recurrence.is_some(),
            !task.reminders.is_empty(),
        ];
        return Ok(UPDATABLE.into_iter().zip(are_set).filter_map(|(field, is_set)| is_set.then_some(field)).collect());
    }
    let mut fields = Vec::new();
    for path in paths {
        match UPDATABLE.into_iter().chain(RECURRENCE_FIELDS).find(|field| field == path) {
            Some(field) => fields.push(field),
            None if path == "*" => fields.extend(UPDATABLE),
            None => {
                // Truncated, because the path may be long. No field name is longer than this.
                let path: String = path.chars().take(50).collect();
                let fields = UPDATABLE.join(", ");
                return Err(format!("{path:?} cannot be updated; the mask may contain {fields}, or * for all of them"));
            }
        }
    }
    Ok(fields)
}

/// Clears the due date if the due time is set, and vice versa. Setting both is a violation.
fn resolve_due(
    validator: &mut RequestValidator<'_>,
    date: Change<Date>,
    time: Change<Timestamp>,
) -> (Change<Date>, Change<Timestamp>) {
    match (date, time) {
        (Change::Set(_), Change::Set(_)) => validator.add_both_due(),
        (Change::Set(_), _) => return (date, Change::Clear),
        (_, Change::Set(_)) => return (Change::Clear, time),
        _ => {}
    }
    (date, time)
}
