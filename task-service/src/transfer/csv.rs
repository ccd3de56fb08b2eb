//! The format of CSV (RFC 4180): a header, and a record for each task.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};
use serde_json::Value;
use taskey_proto::task::v1::{Task, TaskList};

use super::{
    fields::FIELDS,
    series::{self, SERIES},
};
use crate::model::recurrence::SeriesState;

/// The column with the title of the list, after those of the fields.
pub(crate) const LIST: &str = "list";

/// The characters with which a formula begins in a spreadsheet (OWASP, "CSV Injection"), and the one that marks text.
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '\t', '\r', '\n', GUARD];

/// Precedes a text that a spreadsheet would take for a formula.
const GUARD: char = '\'';

/// Appends the names of the columns.
pub(crate) fn write_header(file: &mut Vec<u8>) {
    write_record(
        FIELDS.iter().map(|field| field.name.to_owned()).chain([SERIES.to_owned(), LIST.to_owned()]),
        Terminator::CRLF,
        file,
    );
}

/// Appends a task, and the state of the series that continues with it.
pub(crate) fn write_task(task: &Task, series: Option<&SeriesState>, list: &TaskList, file: &mut Vec<u8>) {
    let values = FIELDS.iter().map(|field| to_text((field.get)(task)));
    let series = to_text(series.map(series::to_json).unwrap_or_default());
    let guarded = values.chain([series, list.title.clone()]).map(|text| guard(&text).into_owned());
    write_record(guarded, Terminator::CRLF, file);
}

/// Returns a value as text. A list is one CSV record.
fn to_text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Array(values) => {
            let mut record = Vec::new();
            write_record(values.into_iter().map(to_text), Terminator::Any(b'\n'), &mut record);
            String::from_utf8_lossy(&record).trim_end_matches('\n').to_owned()
        }
        value => value.to_string(),
    }
}

/// Marks a text that a spreadsheet would take for a formula. [`unguard`] returns the original.
fn guard(text: &str) -> Cow<'_, str> {
    if text.starts_with(FORMULA_STARTS) { format!("{GUARD}{text}").into() } else { text.into() }
}

/// Returns a text without the mark of [`guard`].
pub(crate) fn unguard(text: &str) -> &str {
    text.strip_prefix(GUARD).filter(|rest| rest.starts_with(FORMULA_STARTS)).unwrap_or(text)
}

fn write_record(fields: impl Iterator<Item = String>, terminator: Terminator, file: &mut Vec<u8>) {
    let mut writer = WriterBuilder::new().terminator(terminator).buffer_capacity(1024).from_writer(file);
    let fields: Vec<_> = fields.collect();
    writer.write_record(&fields).and_then(|()| Ok(writer.flush()?)).expect("written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[&str]) -> String {
        let mut file = Vec::new();
        write_record(fields.iter().map(|field| guard(field).into_owned()), Terminator::CRLF, &mut file);
        String::from_utf8(file).expect("UTF-8")
    }

    #[test]
    fn formulas_are_marked_as_text() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "'"] {
            assert!(guard(formula).starts_with('\''), "{formula:?}");
            assert_eq!(unguard(&guard(formula)), formula);
        }
        assert_eq!(record(&["=cmd|' /C calc'!A0", "1=1", "", "it's"]), "'=cmd|' /C calc'!A0,1=1,,it's\r\n");
    }

    #[test]
    fn apostrophes_before_other_texts_are_no_marks() {
        for text in ["'tis", "'", "''", "", "a'=1"] {
            assert_eq!(unguard(&guard(text)), text);
        }
        assert_eq!(unguard("'tis"), "'tis");
    }

    #[test]
    fn separators_and_line_breaks_are_quoted() {
        assert_eq!(record(&["a,b", "say \"hi\"", "one\r\ntwo"]), "\"a,b\",\"say \"\"hi\"\"\",\"one\r\ntwo\"\r\n");
    }

    #[test]
    fn labels_are_one_record() {
        assert_eq!(to_text(serde_json::json!(["home", "a, b", "c\"d"])), "home,\"a, b\",\"c\"\"d\"");
    }
}
