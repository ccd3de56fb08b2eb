//! Parses writes to tasks, and the options of all writes.

use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::civil::Date;
use prost::Message;
use service_kit::{
    clock::Timestamp,
    epoch::Epoch,
    status::{ApiError, Violations},
    update_mask::ReadOnlyFields,
};
use taskey_proto::task::v1::{
    AcknowledgeReminderRequest, CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, MoveTaskRequest,
    Recurrence as PbRecurrence, Reminder, SnoozeReminderRequest, Task, UpdateTaskRequest,
    move_task_request::Position as PbPosition, update_task_request::Scope,
};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::{MISSING, recurrence, reminder};
use crate::{
    model::{
        Target,
        field::{self, FieldError, Labels, Notes, Priority, Title},
        recurrence::{REQUIRES_DUE, RecurrenceUpdate, Slot},
        reminder::NewReminder,
        write::{Change, Move, NewTask, Position, RepeatedFields, TaskUpdate, UpdateScope, Write},
    },
    response,
};

/// The options of a write.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// The request id and the hash of the request, if it has an id (AIP-155).
    pub(crate) request: Option<RequestId>,
    /// Whether the write is a dry run (AIP-163).
    pub(crate) validate_only: bool,
}

/// The id that a caller generated for a request, and the hash of that request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    pub(crate) id: Uuid,
    /// SHA-256 of the method and the whole request, in base64url.
    pub(crate) hash: String,
}

impl WriteOptions {
    /// Parses the options of a request to a method. A dry run has no request id, because its response is not stored.
    ///
    /// # Errors
    /// VALIDATION_FAILED if the id is not a UUID.
    pub(crate) fn parse(
        method: &'static str,
        request: &impl Message,
        id: &str,
        validate_only: bool,
    ) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let id = violations.check("request_id", field::optional_id(id));
        let id = violations.finish(id)?.filter(|_| !validate_only);
        Ok(Self { request: id.map(|id| RequestId { id, hash: hash(method, request) }), validate_only })
    }
}

/// Hashes a method and a request, separated by a NUL, which no method name contains.
fn hash(method: &str, request: &impl Message) -> String {
    let mut context = Context::new(&SHA256);
    context.update(method.as_bytes());
    context.update(&[0]);
    context.update(&request.encode_to_vec());
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

/// The fields that an update can change: all except those that the server sets, and the list, parent and rank.
const UPDATABLE: [&str; 9] =
    ["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels", "recurrence", "reminders"];

/// The fields of the recurrence, which an update can change one by one.
const RECURRENCE_FIELDS: [&str; 3] = ["recurrence.rrule", "recurrence.basis", "recurrence.catch_up"];

/// Adds the violations of a write to those of the request. Their paths begin with `prefix`, which is empty outside of a
/// batch.
pub(crate) struct RequestValidator<'a> {
    pub(crate) violations: &'a mut Violations,
    pub(crate) prefix: &'a str,
}

impl RequestValidator<'_> {
    fn check<T, E: std::fmt::Display>(&mut self, path: &str, value: Result<T, E>) -> Option<T> {
        self.violations.check(format!("{}{path}", self.prefix), value)
    }

    pub(crate) fn add(&mut self, path: &str, description: &str) {
        self.violations.add(format!("{}{path}", self.prefix), description);
    }

    /// Parses the fields of a recurrence that are set.
    fn recurrence(&mut self, message: &PbRecurrence, is_set: impl Fn(&str) -> bool) -> RecurrenceUpdate {
        let PbRecurrence { rrule, basis, catch_up } = message;
        let [rrule_path, basis_path, catch_up_path] = RECURRENCE_FIELDS;
        let path = |field: &str| is_set(field).then(|| format!("task.{field}"));
        RecurrenceUpdate {
            rule: path(rrule_path).and_then(|path| self.check(&path, recurrence::rule(rrule))),
            basis: path(basis_path).and_then(|path| self.check(&path, recurrence::basis(*basis))),
            catch_up: path(catch_up_path).and_then(|path| self.check(&path, recurrence::catch_up(*catch_up))),
        }
    }

    fn reminders(&mut self, reminders: &[Reminder]) -> Option<Vec<NewReminder>> {
        reminder::parse(&format!("{}task.reminders", self.prefix), reminders, self.violations)
    }

    pub(crate) fn target(&mut self, path: &str, id: &str, etag: &str) -> Option<Target> {
        let id = self.check(path, field::id(id))?;
        Some(Target::new(id, etag))
    }
}

/// Parses a single write, outside of a batch.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub(crate) fn parse(
    parse_write: impl FnOnce(&mut RequestValidator<'_>) -> Option<Write>,
) -> Result<Vec<Write>, ApiError> {
    let mut violations = Violations::default();
    let write = parse_write(&mut RequestValidator { violations: &mut violations, prefix: "" });
    violations.finish(write.map(|write| vec![write]))
}

/// Parses a creation. Fields that the server sets are ignored (AIP-203).
pub(crate) fn create(request: CreateTaskRequest, validator: &mut RequestValidator<'_>) -> Option<Write> {
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
    let recurrence = task.recurrence.and_then(|recurrence| validator.recurrence(&recurrence, |_| true).apply(None));
    let (due_date, due_time, time_zone) = (due_date?, due_time?, time_zone?);
    if due_date.is_some() && due_time.is_some() {
        add_both_due_violations(validator);
    }
    if let Some(recurrence) = &recurrence {
        match Slot::from_due(due_date, due_time, &time_zone) {
            Some(slot) => _ = validator.check("task.recurrence.rrule", recurrence.check(slot, &time_zone)),
            None => validator.add("task.recurrence", REQUIRES_DUE),
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
    let scope = validator.check("scope", update_scope(request.scope, &recurrence));
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
    message: Option<PbRecurrence>,
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

fn update_scope(scope: i32, recurrence: &Change<RecurrenceUpdate>) -> Result<UpdateScope, FieldError> {
    match Scope::try_from(scope) {
        Ok(Scope::Unspecified) => Ok(UpdateScope::Unspecified),
        Ok(Scope::This) if *recurrence != Change::Keep => {
            Err("must not be SCOPE_THIS if recurrence is updated, which also applies to the following occurrences")
        }
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

/// Clears the due date if the due time is set, and vice versa. Setting both is a violation.
fn resolve_due(
    validator: &mut RequestValidator<'_>,
    date: Change<Date>,
    time: Change<Timestamp>,
) -> (Change<Date>, Change<Timestamp>) {
    match (date, time) {
        (Change::Set(_), Change::Set(_)) => add_both_due_violations(validator),
        (Change::Set(_), _) => return (date, Change::Clear),
        (_, Change::Set(_)) => return (Change::Clear, time),
        _ => {}
    }
    (date, time)
}

fn add_both_due_violations(validator: &mut RequestValidator<'_>) {
    validator.add("task.due_date", "must not be set together with the due time");
    validator.add("task.due_time", "must not be set together with the due date");
}
