//! Writes the files of exports.

use taskey_proto::task::v1::{Task, TaskList};

use super::{csv, icalendar, jsonl};
use crate::model::{file::ExportFormat, recurrence::SeriesState};

impl ExportFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::ICalendar => "text/calendar; charset=utf-8",
        }
    }

    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::JsonLines => "tasks.jsonl",
            Self::Csv => "tasks.csv",
            Self::ICalendar => "tasks.ics",
        }
    }

    /// Appends the beginning of the file.
    pub(crate) fn begin(self, file: &mut Vec<u8>) {
        match self {
            Self::JsonLines => file.extend_from_slice(jsonl::HEADER),
            Self::Csv => csv::write_header(file),
            Self::ICalendar => icalendar::write_begin(file),
        }
    }

    /// Appends a list. Its tasks follow.
    pub(crate) fn list(self, list: &TaskList, file: &mut Vec<u8>) {
        match self {
            Self::JsonLines => jsonl::write_list(list, file),
            Self::Csv | Self::ICalendar => {}
        }
    }

    /// Appends a task of a list, and the state of the series that continues with it.
    pub(crate) fn task(self, task: &Task, series: Option<&SeriesState>, list: &TaskList, file: &mut Vec<u8>) {
        match self {
            Self::JsonLines => jsonl::write_task(task, series, file),
            Self::Csv => csv::write_task(task, series, list, file),
            Self::ICalendar => icalendar::write_task(task, series, list, file),
        }
    }

    /// Appends the end of a file with this number of tasks.
    pub(crate) fn end(self, count: usize, file: &mut Vec<u8>) {
        match self {
            Self::JsonLines => jsonl::write_end(count, file),
            Self::Csv => {}
            Self::ICalendar => icalendar::write_end(file),
        }
    }
}
