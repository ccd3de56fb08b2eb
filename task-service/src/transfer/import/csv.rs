//! Reads CSV with the columns of exports, in any order. Only `title` is required.

use std::{
    collections::{HashMap, HashSet},
    io::Read,
};

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
    model::{field, recurrence::SeriesState},
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
    let (mut lists, mut keys) = (Lists::default(), Keys::default());
    while let Some(record) = records.next()? {
        let row = records.row;
        let entry = match task(&columns, &record) {
            Ok((task, series)) => {
                let list = columns.list.and_then(|column| record.get(column)).map(unguard).unwrap_or_default();
                let mut task = FileTask { row, series, ..FileTask::from_task(task) };
                if let Some(list) = lists.set_list(&mut task, list, columns.has("list_id")) {
                    sink.push(Entry::List(list), 0)?;
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
    let mut known = HashSet::new();
    for (name, field) in header.iter().zip(&columns.fields) {
        let is_known = field.is_some() || [LIST, SERIES].contains(&name.trim());
        if is_known && !known.insert(name.trim()) {
            return Err(ReadError::Invalid(Issue::new(1, name.trim(), "must be the name of only one column")));
        }
        if !is_known {
            sink.push(Entry::Loss(Issue::new(1, name, "is not a column of tasks, and is not imported")), 0)?;
        }
    }
    Ok(columns)
}

/// The lists of the rows so far.
#[derive(Default)]
struct Lists {
    keys: HashSet<String>,
    /// The keys of lists with an id, by their titles.
    by_title: HashMap<String, String>,
    /// The title of the default list.
    default_title: Option<String>,
}

impl Lists {
    /// Sets the list of a task. Returns the list if it is new. If lists have ids, rows of an export that have an id, but no id of a list, are in
    /// the default list; in rows that a person has added, the title determines the list.
    fn set_list(&mut self, task: &mut FileTask, title: &str, has_ids: bool) -> Option<FileList> {
        if task.list.is_none() && !title.is_empty() {
            let is_exported = has_ids && field::id(&task.key).is_ok();
            let default_title = self.default_title.take().or_else(|| is_exported.then(|| title.to_owned()));
            let is_default = default_title.as_deref() == Some(title);
            self.default_title = default_title;
            match (is_default, is_exported) {
                (true, _) => {}
                (false, true) => {
                    task.losses.push((LIST, "requires a list_id; the task is imported into the default list"));
                }
                (false, false) => {
                    let key = self.by_title.get(title).cloned();
                    task.list = Some(key.unwrap_or_else(|| title.to_owned()));
                }
            }
        }
        let key = task.list.clone().filter(|key| self.keys.insert(short_key(key)))?;
        if !title.is_empty() {
            self.by_title.entry(title.to_owned()).or_insert_with(|| key.clone());
        }
        let title = if title.is_empty() { &key } else { title }.to_owned();
        Some(FileList { key, title })
    }
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

/// Returns the elements of a list, which is one CSV record or, as people write them, several lines.
fn labels(text: &str) -> Value {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let records: Result<Vec<_>, _> = reader.records().collect();
    let texts = |records: Vec<StringRecord>| {
        records.iter().flat_map(StringRecord::iter).map(|text| text.trim_matches('\r').to_owned()).collect()
    };
    records.map(texts).unwrap_or_default()
}
