//! The requests that make and change tasks.

use jiff::civil::Date;
use service_kit::{
    clock::Timestamp,
    status::{Refusal, Violations},
};
use taskey_proto::task::v1::{CreateTaskRequest, Task, UpdateTaskRequest, task::Priority};

use super::{
    Revision, Target,
    field::{self, Fault, Notes, Title},
};

/// The fields that an update can change: all that the server does not set.
const UPDATABLE: [&str; 5] = ["title", "notes", "priority", "due_date", "due_time"];

const MISSING: Fault = "must be given";

/// A task to be made.
#[derive(Debug)]
pub(crate) struct NewTask {
    pub(crate) title: Title,
    pub(crate) notes: Notes,
    pub(crate) priority: Priority,
    /// Never there together with a due time.
    pub(crate) due_date: Option<Date>,
    pub(crate) due_time: Option<Timestamp>,
}

impl TryFrom<CreateTaskRequest> for NewTask {
    type Error = Refusal;

    /// What the server sets is ignored (AIP-203).
    fn try_from(request: CreateTaskRequest) -> Result<Self, Refusal> {
        let mut violations = Violations::default();
        let task = violations.check("task", request.task.ok_or(MISSING));
        let parsed = task.and_then(|task| {
            let title = violations.check("task.title", Title::try_from(task.title));
            let notes = violations.check("task.notes", Notes::try_from(task.notes));
            let priority = violations.check("task.priority", field::priority(task.priority));
            let due_date = violations.check("task.due_date", field::due_date(&task.due_date));
            let due_time = violations.check("task.due_time", field::due_time(task.due_time));
            let (due_date, due_time) = (due_date?, due_time?);
            if due_date.is_some() && due_time.is_some() {
                add_both_due(&mut violations);
            }
            Some(Self { title: title?, notes: notes?, priority: priority?, due_date, due_time })
        });
        violations.finish(parsed)
    }
}

/// Changes of a task. A field that is not there stays as it is.
#[derive(Debug)]
pub(crate) struct TaskUpdate {
    pub(crate) target: Target,
    pub(crate) title: Option<Title>,
    pub(crate) notes: Option<Notes>,
    pub(crate) priority: Option<Priority>,
    /// Never set together with a due time: to set one is to clear the other.
    pub(crate) due_date: Change<Date>,
    pub(crate) due_time: Change<Timestamp>,
}

/// What an update does to a field that a task may lack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<T> {
    /// Leaves it as it is.
    Keep,
    /// Sets it, or clears it.
    To(Option<T>),
}

impl<T> Change<T> {
    pub(crate) fn is_made(&self) -> bool {
        matches!(self, Self::To(_))
    }

    /// What the field is set to, if it is.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::To(value) => value,
        }
    }
}

impl TaskUpdate {
    /// Whether anything changes.
    pub(crate) fn is_change(&self) -> bool {
        self.title.is_some()
            || self.notes.is_some()
            || self.priority.is_some()
            || self.due_date.is_made()
            || self.due_time.is_made()
    }
}

impl TryFrom<UpdateTaskRequest> for TaskUpdate {
    type Error = Refusal;

    /// Fields that the mask does not name are not looked at.
    fn try_from(request: UpdateTaskRequest) -> Result<Self, Refusal> {
        let mut violations = Violations::default();
        let task = violations.check("task", request.task.ok_or(MISSING));
        let parsed = task.and_then(|task| {
            let paths = request.update_mask.unwrap_or_default().paths;
            let fields = violations.check("update_mask", updated_fields(&paths, &task)).unwrap_or_default();
            let id = violations.check("task.id", field::id(&task.id));
            let revision = Revision::of_etag(&task.etag);

            let is_updated = |field| fields.contains(&field);
            let title = is_updated("title").then(|| violations.check("task.title", Title::try_from(task.title)));
            let notes = is_updated("notes").then(|| violations.check("task.notes", Notes::try_from(task.notes)));
            let priority =
                is_updated("priority").then(|| violations.check("task.priority", field::priority(task.priority)));
            let due_date =
                is_updated("due_date").then(|| violations.check("task.due_date", field::due_date(&task.due_date)));
            let due_time =
                is_updated("due_time").then(|| violations.check("task.due_time", field::due_time(task.due_time)));
            let due_date = due_date.flatten().map_or(Change::Keep, Change::To);
            let due_time = due_time.flatten().map_or(Change::Keep, Change::To);
            let (due_date, due_time) = one_due(&mut violations, due_date, due_time);
            // What is at fault is left out here; then there is a violation, and the update does not come about.
            Some(Self {
                target: Target { id: id?, revision },
                title: title.flatten(),
                notes: notes.flatten(),
                priority: priority.flatten(),
                due_date,
                due_time,
            })
        });
        violations.finish(parsed)
    }
}

/// The fields that an update changes: those that the mask names or, without a mask, those that are set (AIP-134).
fn updated_fields(paths: &[String], task: &Task) -> Result<Vec<&'static str>, String> {
    if paths.is_empty() {
        let set = [
            !task.title.is_empty(),
            !task.notes.is_empty(),
            task.priority != 0,
            !task.due_date.is_empty(),
            task.due_time.is_some(),
        ];
        return Ok(UPDATABLE.into_iter().zip(set).filter_map(|(field, is_set)| is_set.then_some(field)).collect());
    }
    let mut fields = Vec::new();
    for path in paths {
        match UPDATABLE.into_iter().find(|field| field == path) {
            Some(field) => fields.push(field),
            None if path == "*" => fields.extend(UPDATABLE),
            None => {
                // Long enough for any field, too short for a novel.
                let path: String = path.chars().take(50).collect();
                let fields = UPDATABLE.join(", ");
                return Err(format!("{path:?} cannot be changed; the mask may hold {fields}, or * for all of them"));
            }
        }
    }
    Ok(fields)
}

/// Setting one of due date and due time clears the other; both at once cannot be set.
fn one_due(
    violations: &mut Violations,
    date: Change<Date>,
    time: Change<Timestamp>,
) -> (Change<Date>, Change<Timestamp>) {
    match (date, time) {
        (Change::To(Some(_)), Change::To(Some(_))) => add_both_due(violations),
        (Change::To(Some(_)), _) => return (date, Change::To(None)),
        (_, Change::To(Some(_))) => return (Change::To(None), time),
        _ => {}
    }
    (date, time)
}

fn add_both_due(violations: &mut Violations) {
    violations.add("task.due_date", "must not be given together with a due time");
    violations.add("task.due_time", "must not be given together with a due date");
}
