//! Reads JSON Lines of Taskey.

use std::io::BufRead;

use serde_json::{Map, Value};
use taskey_proto::task::v1::Task;

use super::{
    entry::{Entry, FileList, FileTask, Issue},
    sink::{ReadError, Sink, read_line},
};
use crate::transfer::{
    fields::FIELDS,
    jsonl::VERSION,
    series::{self, SERIES},
};

/// Reads a file.
///
/// # Errors
/// If it is not such a file, or was cut off.
pub(crate) fn read(text: &mut impl BufRead, sink: &mut Sink) -> Result<(), ReadError> {
    let (mut row, mut line, mut tasks, mut end) = (0, Vec::new(), 0, None);
    while read_line(text, row + 1, &mut line)? {
        row += 1;
        if end.is_some() {
            return Err(ReadError::invalid(row, "must not follow the line \"end\""));
        }
        let object: Option<Map<String, Value>> = serde_json::from_slice(&line).ok();
        if row == 1 {
            check_header(object.as_ref())?;
            continue;
        }
        let only = object.filter(|object| object.len() == 1).and_then(|object| object.into_iter().next());
        let entry = match only {
            Some((kind, Value::Object(fields))) if kind == "task" => {
                tasks += 1;
                task(row, fields)
            }
            Some((kind, Value::Object(fields))) if kind == "list" => list(row, &fields),
            Some((kind, Value::Object(fields))) if kind == "end" => {
                end = Some(fields.get("tasks").and_then(Value::as_u64));
                continue;
            }
            _ => Entry::Error(Issue::new(row, "", "must be a JSON object with either `list`, `task` or `end`")),
        };
        sink.push(entry, line.len())?;
    }
    match end {
        Some(count) if count == Some(tasks) => Ok(()),
        Some(_) => Err(ReadError::invalid(row, "is not the number of tasks in the file")),
        None => Err(ReadError::invalid(row + 1, "the file ends early: its last line must be \"end\"")),
    }
}

fn check_header(header: Option<&Map<String, Value>>) -> Result<(), ReadError> {
    let value = |key: &str| header.and_then(|header| header.get(key));
    if value("format").and_then(Value::as_str) != Some("taskey") {
        return Err(ReadError::invalid(1, "the first line must be {\"format\":\"taskey\",\"version\":1}"));
    }
    if value("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err(ReadError::invalid(1, "this version of the format is not supported"));
    }
    Ok(())
}

fn list(row: u32, fields: &Map<String, Value>) -> Entry {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_default = fields.get("isDefault").and_then(Value::as_bool).unwrap_or_default();
    match (is_default, text("id"), text("title")) {
        (true, key, _) if !key.is_empty() => {
            Entry::Error(Issue::new(row, "id", "must not be set for the default list"))
        }
        (false, key, _) if key.is_empty() => Entry::Error(Issue::new(row, "id", "must be set")),
        (_, key, title) => Entry::List(FileList { key, title }),
    }
}

/// Returns the task of a line, or the error of its first invalid field.
fn task(row: u32, fields: Map<String, Value>) -> Entry {
    let (mut task, mut series, mut losses) = (Task::default(), None, Vec::new());
    for (name, value) in fields {
        match FIELDS.iter().find(|field| field.json_name == name) {
            Some(_) if value.is_null() => {}
            Some(field) => {
                if let Err(description) = (field.set)(&mut task, value) {
                    return Entry::Error(Issue::new(row, field.name, description));
                }
            }
            None if name == SERIES => match series::parse(value) {
                Ok(state) => series = Some(state),
                Err(description) => return Entry::Error(Issue::new(row, SERIES, description)),
            },
            None => losses.push(("", "a field is unknown, and is not imported")),
        }
    }
    if task.id.is_empty() {
        return Entry::Error(Issue::new(row, "id", "must be set"));
    }
    Entry::Task(Box::new(FileTask { row, series, losses, ..FileTask::from_task(task) }))
}
