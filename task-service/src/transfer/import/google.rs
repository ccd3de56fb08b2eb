//! The tasks of Google Takeout, `Tasks.json`: task lists and tasks as in the Google Tasks API.

use serde_json::{Map, Value};
use taskey_proto::task::v1::{Task, task::State};

use super::{
    entry::{Entry, FileTask, Issue, Loss},
    json_lists::{NEXT_PAGE, Structure, is_next_page},
    sink::{ReadError, Sink},
};
use crate::transfer::fields::parse_time;

/// The structure of the document.
pub(crate) const STRUCTURE: Structure =
    Structure { lists: "items", id: "id", title: "title", tasks: "items", is_default: |_, _| false, push };

/// The fields that belong to one copy of the task, or follow from others.
const OF_ONE_COPY: [&str; 8] =
    ["kind", "etag", "updated", "selfLink", "webViewLink", "position", "task_type", "hidden"];

/// The fields that are texts.
const TEXTS: [&str; 8] = ["id", "parent", "title", "notes", "status", "due", "completed", "created"];

/// What is said about another value where a text is expected.
pub(crate) const NOT_A_TEXT: &str = "is not a text, and is not imported";

/// The length of a date such as `2026-11-30`.
const DATE_BYTES: usize = 10;

/// Adds a task.
fn push(row: u32, list: Option<&str>, fields: Map<String, Value>, sink: &mut Sink) -> Result<(), ReadError> {
    let mut file_task = FileTask { row, list: list.map(str::to_owned), ..FileTask::default() };
    let mut bytes = 0;
    for (name, value) in fields {
        let text = value.as_str().unwrap_or_default();
        bytes += text.len();
        let task = &mut file_task.task;
        match name.as_str() {
            _ if value.is_null() => {}
            name if is_next_page(name) => sink.push(Entry::Loss(Issue::new(row, name, NEXT_PAGE)), 0)?,
            name if TEXTS.contains(&name) && !value.is_string() => {
                sink.push(Entry::Loss(Issue::new(row, name, NOT_A_TEXT)), 0)?;
            }
            "id" => file_task.set_source("google", text.to_owned()),
            "parent" => file_task.parent = Some(text.to_owned()).filter(|parent| !parent.is_empty()),
            "title" => text.clone_into(&mut task.title),
            "notes" => text.clone_into(&mut task.notes),
            "status" if text == "completed" => task.state = State::Completed.into(),
            "status" if !["", "needsAction"].contains(&text) => {
                file_task.losses.push(("status", "is not known; the task is open"));
            }
            "status" => {}
            // Only the date is meaningful: the API discards the time of the day.
            "due" => file_task.losses.extend(set_due_date(task, "due", text)),
            "completed" => {
                task.complete_time = checked_time("completed", parse_time(text), &mut file_task.losses);
            }
            "created" => task.create_time = checked_time("created", parse_time(text), &mut file_task.losses),
            "deleted" if value == true => {
                return sink
                    .push(Entry::Loss(Issue::new(row, "deleted", "tasks that are deleted are not imported")), 0);
            }
            name if OF_ONE_COPY.contains(&name) || is_empty(&value) => {}
            name => sink.push(Entry::Loss(Issue::new(row, name, "is not imported")), 0)?,
        }
    }
    finish(file_task, bytes, sink)
}

/// Sets the due date to that of a time. Returns what is lost.
fn set_due_date(task: &mut Task, name: &'static str, time: &str) -> Option<Loss> {
    let (date, rest) = time.split_at_checked(DATE_BYTES).unwrap_or((time, ""));
    date.clone_into(&mut task.due_date);
    let is_midnight = rest.chars().all(|character| "T0:.Z".contains(character));
    (!is_midnight).then_some((name, "has a time of the day or a time zone, and only its date is imported"))
}

/// Returns a time. Adds a loss if there is none.
pub(crate) fn checked_time(
    name: &'static str,
    time: Option<prost_types::Timestamp>,
    losses: &mut Vec<Loss>,
) -> Option<prost_types::Timestamp> {
    if time.is_none() {
        losses.push((name, "is not a time that is known, and is not imported"));
    }
    time
}

/// Reports whether a value says nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Adds a task, unless it has no id.
pub(crate) fn finish(file_task: FileTask, bytes: usize, sink: &mut Sink) -> Result<(), ReadError> {
    let entry = match file_task {
        FileTask { row, key, .. } if key.is_empty() => Entry::Error(Issue::new(row, "id", "must be set")),
        file_task => Entry::Task(Box::new(file_task)),
    };
    sink.push(entry, bytes)
}
