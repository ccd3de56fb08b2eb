//! The lists of Microsoft To Do, as Microsoft Graph returns them: `GET /me/todo/lists?$expand=tasks`, where each task can
//! have its `checklistItems`.

use serde_json::{Map, Value};
use taskey_proto::task::v1::{
    Task,
    task::{Priority, State},
};

use super::{
    entry::{Entry, FileTask, Issue},
    google::{NOT_A_TEXT, checked_time, finish, is_empty},
    graph::{set_due, set_recurrence, set_reminder, zoned_time},
    json_lists::{NEXT_PAGE, Structure, is_next_page},
    sink::{ReadError, Sink},
};
use crate::transfer::fields::parse_time;

/// The structure of the document.
pub(crate) const STRUCTURE: Structure =
    Structure { lists: "value", id: "id", title: "displayName", tasks: "tasks", is_default, push };

/// The default list of a user has this name, whatever its title.
fn is_default(key: &str, value: &Value) -> bool {
    key == "wellknownListName" && value == "defaultList"
}

/// The fields that belong to one copy of the task, or follow from others.
const OF_ONE_COPY: [&str; 3] = ["@odata.etag", "lastModifiedDateTime", "bodyLastModifiedDateTime"];

/// The fields that are texts.
const TEXTS: [&str; 5] = ["id", "title", "status", "importance", "createdDateTime"];

/// Adds a task and the items of its checklist, which become subtasks.
fn push(row: u32, list: Option<&str>, fields: Map<String, Value>, sink: &mut Sink) -> Result<(), ReadError> {
    let mut file_task = FileTask { row, list: list.map(str::to_owned), ..FileTask::default() };
    let (mut bytes, mut items) = (0, Vec::new());
    let (mut due, mut recurrence, mut reminder, mut is_reminder_on) = (Value::Null, Value::Null, Value::Null, false);
    for (name, value) in fields {
        let text = value.as_str().unwrap_or_default();
        bytes += text.len();
        let task = &mut file_task.task;
        match name.as_str() {
            name if TEXTS.contains(&name) && !value.is_string() && !value.is_null() => {
                sink.push(Entry::Loss(Issue::new(row, name, NOT_A_TEXT)), 0)?;
            }
            "id" => file_task.set_source("microsoft", text.to_owned()),
            "title" => text.clone_into(&mut task.title),
            "body" => {
                let content = value["content"].as_str().unwrap_or_default();
                if !is_empty(&value) && !value["content"].is_string() && !value["content"].is_null() {
                    file_task.losses.push(("body", NOT_A_TEXT));
                }
                bytes += content.len();
                content.clone_into(&mut task.notes);
                if value["contentType"] == "html" && !content.is_empty() {
                    file_task.losses.push(("body", "is HTML, and is imported as it is"));
                }
            }
            "status" if text == "completed" => task.state = State::Completed.into(),
            "status" if ["inProgress", "waitingOnOthers", "deferred"].contains(&text) => {
                file_task.losses.push(("status", "is not imported; the task is open"));
            }
            "importance" if text == "high" => task.priority = Priority::High.into(),
            "importance" if text == "low" => task.priority = Priority::Low.into(),
            "status" if !["", "notStarted"].contains(&text) => {
                file_task.losses.push(("status", "is not known; the task is open"));
            }
            "importance" if !["", "normal"].contains(&text) => {
                file_task.losses.push(("importance", "is not known, and is not imported"));
            }
            "status" | "importance" => {}
            _ if value.is_null() => {}
            name if is_next_page(name) => sink.push(Entry::Loss(Issue::new(row, name, NEXT_PAGE)), 0)?,
            "createdDateTime" => {
                task.create_time = checked_time("createdDateTime", parse_time(text), &mut file_task.losses);
            }
            "completedDateTime" => {
                task.complete_time = checked_time("completedDateTime", zoned_time(&value), &mut file_task.losses);
            }
            "recurrence" => recurrence = value,
            "reminderDateTime" => reminder = value,
            "isReminderOn" => is_reminder_on = value == true,
            "dueDateTime" => due = value,
            "categories" => {
                let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                task.labels = texts.map(str::to_owned).collect();
                if value.as_array().is_none_or(|categories| categories.len() > task.labels.len()) {
                    file_task.losses.push(("categories", NOT_A_TEXT));
                }
            }
            "checklistItems" => match value {
                Value::Array(values) => items = values,
                _ => file_task.losses.push(("checklistItems", "is not a list, and is not imported")),
            },
            name if OF_ONE_COPY.contains(&name) || name.contains("@odata") || is_empty(&value) => {}
            name => sink.push(Entry::Loss(Issue::new(row, name, "is not imported")), 0)?,
        }
    }
    let task = &mut file_task.task;
    if let Some(description) = set_due(task, &due, &recurrence) {
        sink.push(Entry::Loss(Issue::new(row, "dueDateTime", description)), 0)?;
    }
    let loss = sink.search(row, "recurrence", |searches| set_recurrence(task, &recurrence, searches))?;
    file_task.losses.extend(loss);
    file_task.losses.extend(set_reminder(&mut file_task.task, &reminder, is_reminder_on));
    let (list, parent) = (file_task.list.clone(), file_task.key.clone());
    finish(file_task, bytes, sink)?;
    for item in items {
        let (subtask, bytes) = item_task(row, list.clone(), parent.clone(), &item);
        finish(subtask, bytes, sink)?;
    }
    Ok(())
}

/// Returns the subtask of an item of a checklist, and its size.
fn item_task(row: u32, list: Option<String>, parent: String, item: &Value) -> (FileTask, usize) {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    let state = if item["isChecked"] == true { State::Completed } else { State::Open };
    let mut losses = Vec::new();
    let mut time = |name: &'static str| match &item[name] {
        Value::Null => None,
        _ => checked_time(name, parse_time(text(name)), &mut losses),
    };
    let (create_time, complete_time) = (time("createdDateTime"), time("checkedDateTime"));
    let title = text("displayName").to_owned();
    let task = Task { title, state: state.into(), create_time, complete_time, ..Task::default() };
    let mut subtask = FileTask { row, list, parent: Some(parent), task, losses, ..FileTask::default() };
    subtask.set_source("microsoft", text("id").to_owned());
    (subtask, text("displayName").len())
}
