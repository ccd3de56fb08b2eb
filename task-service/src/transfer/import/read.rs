//! Reads a file on a thread of its own.

use std::io::{BufRead, BufReader};

use jiff::Timestamp;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    csv, google, icalendar, json_lists, jsonl, microsoft,
    sink::{Batch, File, ReadError, Sink},
    todoist,
};
use crate::model::file::ImportFormat;

/// Starts to read a file, whose recurring dates without a start begin `now`. Dropping the receiver stops it.
pub(crate) fn read(mut file: Box<dyn File>, format: ImportFormat, now: Timestamp) -> mpsc::Receiver<Batch> {
    let (batches, received) = mpsc::channel(1);
    spawn_blocking(move || {
        let mut sink = Sink::new(batches);
        let outcome = parse(&mut *file, format, now, &mut sink).and_then(|()| sink.flush());
        if let Err(error) = outcome {
            sink.fail(error);
        }
    });
    received
}

/// Returns all entries of a file, for tests that have no runtime.
#[cfg(any(test, fuzzing))]
pub(crate) fn entries(file: &[u8], format: ImportFormat) -> Result<Vec<super::entry::Entry>, ReadError> {
    // No entry is shorter than a byte.
    let (batches, mut received) = mpsc::channel(file.len() + 1);
    let mut sink = Sink::new(batches);
    parse(&mut std::io::Cursor::new(file), format, Timestamp::UNIX_EPOCH, &mut sink)?;
    sink.flush()?;
    drop(sink);
    let mut entries = Vec::new();
    while let Some(batch) = received.blocking_recv() {
        entries.extend(batch?);
    }
    Ok(entries)
}

/// Reads all entries of a file.
fn parse(file: &mut dyn File, format: ImportFormat, now: Timestamp, sink: &mut Sink) -> Result<(), ReadError> {
    if format == ImportFormat::TodoistBackup {
        return todoist::read_backup(file, now, sink);
    }
    let mut text = BufReader::new(file);
    match text.fill_buf()? {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(ReadError::invalid(1, "the file is in UTF-16; convert it to UTF-8"));
        }
        [0xef, 0xbb, 0xbf, ..] => text.consume(3),
        _ => {}
    }
    match format {
        ImportFormat::JsonLines => jsonl::read(&mut text, sink),
        ImportFormat::Csv => csv::read(text, sink),
        ImportFormat::ICalendar => icalendar::read(&mut text, sink),
        ImportFormat::TodoistCsv => todoist::read_project(text, now, sink),
        ImportFormat::GoogleTakeout => json_lists::read(text, &google::STRUCTURE, sink),
        ImportFormat::MicrosoftTodo => json_lists::read(text, &microsoft::STRUCTURE, sink),
        ImportFormat::TodoistBackup => Ok(()),
    }
}
