//! Receives the entries of a file in batches of bounded size, and what parsers of all formats need.

use std::io::{self, BufRead, Read, Seek};

use thiserror::Error;
use tokio::sync::mpsc;

use super::{
    entry::{Entry, FileTask, Issue},
    fit::fit,
};
use crate::model::recurrence::{SearchBudget, TOO_MANY_DAYS};

/// Maximum size of a row. The longest task has 21 KB, and up to six times as much if all its characters are escaped.
pub(crate) const MAX_ROW_BYTES: usize = 256 * 1024;

/// Maximum number of entries in a batch, and the size after which it is complete.
const MAX_BATCH_ENTRIES: usize = 100;
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// How many days and times the searches of each row may examine besides those of the file together. Most rules
/// require fewer.
pub(crate) const ROW_DAYS: usize = 1000;

/// A file to read.
pub(crate) trait File: Read + Seek + Send {}

impl<F: Read + Seek + Send> File for F {}

/// The entries of a part of a file, or the reason why the rest cannot be read.
pub(crate) type Batch = Result<Vec<Entry>, ReadError>;

/// Why the rest of a file cannot be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("row {}: {}", .0.row, .0.description)]
    Invalid(Issue),
    #[error("the file cannot be read: {0}")]
    Io(io::Error),
    #[error("the reader has stopped")]
    Stopped,
}

impl ReadError {
    pub(crate) fn invalid(row: u32, description: &'static str) -> Self {
        Self::Invalid(Issue::new(row, "", description))
    }
}

impl From<io::Error> for ReadError {
    /// Distinguishes what is wrong with the file from what is wrong with the disk.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::invalid(0, "a row must not be longer than 256 KiB"),
            io::ErrorKind::QuotaExceeded => Self::invalid(0, "the archive has more than 100 MiB"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Self::invalid(0, "the file is damaged, or ends early")
            }
            _ => Self::Io(error),
        }
    }
}

/// Receives the entries of a file.
pub(crate) struct Sink {
    batches: mpsc::Sender<Batch>,
    batch: Vec<Entry>,
    /// The size of the rows in the batch.
    bytes: usize,
    /// What the searches of all rows may still examine.
    searches: SearchBudget,
}

impl Sink {
    pub(crate) fn new(batches: mpsc::Sender<Batch>) -> Self {
        Self { batches, batch: Vec::new(), bytes: 0, searches: SearchBudget::default() }
    }

    /// Reports why the rest of the file cannot be read.
    pub(crate) fn fail(&self, error: ReadError) {
        // Nobody receives it if the receiver was dropped.
        self.batches.blocking_send(Err(error)).ok();
    }

    /// Adds an entry, with values that fit. `bytes` is its size in the file.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn push(&mut self, mut entry: Entry, bytes: usize) -> Result<(), ReadError> {
        if let Entry::Task(file_task) = &mut entry {
            let FileTask { task, losses, .. } = &mut **file_task;
            fit(task, losses);
        }
        if let Entry::List(list) = &entry {
            self.bytes += list.key.len() + list.title.len();
        }
        self.batch.push(entry);
        self.bytes += bytes;
        if self.batch.len() >= MAX_BATCH_ENTRIES || self.bytes >= MAX_BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Searches for occurrences of a row. Adds an error if it would exceed the budget of the file.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn search<T>(
        &mut self,
        row: u32,
        field: &str,
        search: impl FnOnce(&mut SearchBudget) -> T,
    ) -> Result<T, ReadError> {
        let (outcome, is_exhausted) =
            self.searches.with_allowance(ROW_DAYS, |searches| (search(searches), searches.is_exhausted()));
        if is_exhausted {
            self.push(Entry::Error(Issue::new(row, field, TOO_MANY_DAYS)), 0)?;
        }
        Ok(outcome)
    }

    /// Sends the last batch.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn flush(&mut self) -> Result<(), ReadError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.batches.blocking_send(Ok(batch)).map_err(|_| ReadError::Stopped)
    }
}

/// Reads a line without its line break into `line`. Returns whether there is one.
///
/// # Errors
/// If it is too long.
pub(crate) fn read_line(text: &mut impl BufRead, row: u32, line: &mut Vec<u8>) -> Result<bool, ReadError> {
    line.clear();
    let max_bytes = MAX_ROW_BYTES as u64 + 1;
    let count = text.take(max_bytes).read_until(b'\n', line)?;
    if count > MAX_ROW_BYTES {
        return Err(ReadError::invalid(row, "must not be longer than 256 KiB"));
    }
    while line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        line.pop();
    }
    Ok(count > 0)
}
