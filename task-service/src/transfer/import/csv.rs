//! Reads CSV with the columns of exports, in any order. Only `title` is required.

use std::{collections::HashSet, io::Read};

use csv::{ReaderBuilder, StringRecord};
use serde_json::Value;
use taskey_proto::task::v1::Task;

use super::{
    entry::{Entry, FileList, FileTask, Issue, short_key},
    keys::Keys,
    records::Records,
    sink::{ReadError, Sink},
};
use crate::{
    model::recurrence::SeriesState,
    transfer::{
        csv::{LIST, unguard},
        fields::{FIELDS, Field},
        series::{self, SERIES},
    },
};

/// The columns of a file.
struct Columns {
    /// The field of each column, if it is known.
    fields: Vec<Option<&'static Field>>,
    /// The column with the title of the list, and that with the state of the series.
    list: Option<usize>,
    series: Option<usize>,
}

/// Reads a file.
///
/// # Errors
/// If it is not CSV, has no column `title`, or a record is too long or incomplete.
pub(crate) fn read(text: impl Read, sink: &mut Sink) -> Result<(), ReadError> {
    let mut records = Records::new(text, false);
    let Some(header) = records.next()? else { return Err(ReadError::invalid(1, "the file is empty")) };
    let columns = columns(&header, sink)?;
    let (mut lists, mut keys) = (HashSet::new(), Keys::default());
    while let Some(record) = records.next()? {
        let row = records.row;
        let entry = match task(&columns, &record) {
            Ok((task, series)) => {
                let list = columns.list.and_then(|column| record.get(column)).map(unguard).unwrap_or_default();
                let mut task = FileTask { row, series, ..FileTask::from_task(task) };
                if !list.is_empty() && !columns.has("list_id") {
                    task.list = Some(list.to_owned());
                }
                if let Some(key) = task.list.clone().filter(|key| lists.insert(short_key(key))) {
                    let title = if list.is_empty() { &key } else { list }.to_owned();
                    sink.push(Entry::List(FileList { key, title }), 0)?;
                }
                if task.key.is_empty() {
                    task.set_source("csv", keys.next(record.iter()));
                }
                Entry::Task(Box::new(task))
            }
            Err((field, description)) => Entry::Error(Issue::new(row, field, description)),
        };
        sink.push(entry, record.as_slice().len())?;
    }
    records.issue_at_end().map_or(Ok(()), |issue| sink.push(Entry::Loss(issue), 0))
}

/// Returns the columns, and reports the unknown ones.
fn columns(header: &StringRecord, sink: &mut Sink) -> Result<Columns, ReadError> {
    let fields: Vec<_> = header.iter().map(|name| FIELDS.iter().find(|field| field.name == name.trim())).collect();
    let position = |column: &str| header.iter().position(|name| name.trim() == column);
    let columns = Columns { fields, list: position(LIST), series: position(SERIES) };
    if !columns.has("title") {
        return Err(ReadError::invalid(
            1,
            "the first record must contain the names of the columns, among them `title`",
        ));
    }
    for (name, field) in header.iter().zip(&columns.fields) {
        if field.is_none() && ![LIST, SERIES].contains(&name.trim()) {
            sink.push(Entry::Loss(Issue::new(1, name, "is not a column of tasks, and is not imported")), 0)?;
        }
    }
    Ok(columns)
}

impl Columns {
    fn has(&self, name: &str) -> bool {
        self.fields.iter().flatten().any(|field| field.name == name)
    }
}

/// Returns the task of a record and the state of its series, or the name of an invalid field and its description.
fn task(columns: &Columns, record: &StringRecord) -> Result<(Task, Option<SeriesState>), (&'static str, &'static str)> {
    let mut task = Task::default();
    for (field, text) in columns.fields.iter().zip(record) {
        let (Some(field), false) = (field, text.is_empty()) else { continue };
        let text = unguard(text);
        let value = if field.is_list { labels(text) } else { text.into() };
        (field.set)(&mut task, value).map_err(|description| (field.name, description))?;
    }
    let series = columns.series.and_then(|column| record.get(column)).filter(|text| !text.is_empty());
    let series = series.map(|text| series::parse(unguard(text).into())).transpose();
    Ok((task, series.map_err(|description| (SERIES, description))?))
}

/// Returns the elements of a list, which is one CSV record.
fn labels(text: &str) -> Value {
    let record = ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).records().next();
    record.and_then(Result::ok).map(|record| record.iter().map(str::to_owned).collect()).unwrap_or_default()
}
