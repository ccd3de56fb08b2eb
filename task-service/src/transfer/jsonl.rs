//! The format of JSON Lines: a header, then lists and tasks, and the number of tasks, which shows that the file is complete.

use serde_json::{Map, Value, json};
use taskey_proto::task::v1::{Task, TaskList};

use super::{
    fields::FIELDS,
    series::{self, SERIES},
};
use crate::model::recurrence::SeriesState;

/// The version of the format.
pub(crate) const VERSION: u64 = 1;

/// The first line.
pub(crate) const HEADER: &[u8] = b"{\"format\":\"taskey\",\"version\":1}\n";

/// Appends a list. The default list has no id, because it has another one in each account.
pub(crate) fn write_list(list: &TaskList, file: &mut Vec<u8>) {
    let fields = if list.is_default {
        json!({"isDefault": true, "title": list.title})
    } else {
        json!({"id": list.id, "title": list.title})
    };
    write_line(&json!({"list": fields}), file);
}

/// Appends a task, and the state of the series that continues with it.
pub(crate) fn write_task(task: &Task, series: Option<&SeriesState>, file: &mut Vec<u8>) {
    let fields = FIELDS.iter().map(|field| (field.json_name.to_owned(), (field.get)(task)));
    let series = series.map(|series| (SERIES.to_owned(), series::to_json(series)));
    let fields: Map<_, _> = fields.filter(|(_, value)| !value.is_null()).chain(series).collect();
    write_line(&Value::from(Map::from_iter([("task".to_owned(), fields.into())])), file);
}

/// Appends the last line.
pub(crate) fn write_end(count: usize, file: &mut Vec<u8>) {
    write_line(&json!({"end": {"tasks": count}}), file);
}

fn write_line(line: &Value, file: &mut Vec<u8>) {
    serde_json::to_writer(&mut *file, line).expect("written to memory");
    file.push(b'\n');
}
