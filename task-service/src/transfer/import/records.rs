//! Reads texts in parts of bounded size.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use super::{
    entry::Issue,
    sink::{MAX_ROW_BYTES, ReadError},
};

/// The records of a file, each of bounded size.
pub(crate) struct Records<R> {
    reader: Reader<Bounded<Quotes<R>>>,
    room: Room,
    position: Rc<Cell<Position>>,
    /// The number of the last record.
    pub(crate) row: u32,
    /// The numbers of fields of the first record and of the last.
    widths: (usize, usize),
}

impl<R: Read> Records<R> {
    /// Creates a reader. Unless the file is flexible, all records must have as many fields as the first.
    pub(crate) fn new(text: R, is_flexible: bool) -> Self {
        let position = Rc::new(Cell::new(Position::Start));
        let (text, room) = Bounded::new(Quotes { text, position: Rc::clone(&position) });
        let reader = ReaderBuilder::new().has_headers(false).flexible(is_flexible).from_reader(text);
        Self { reader, room, position, row: 0, widths: (0, 0) }
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// If it is too long or malformed, or if the file ends early.
    pub(crate) fn next(&mut self) -> Result<Option<StringRecord>, ReadError> {
        self.room.reset();
        let mut record = StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(true) => {
                self.row += 1;
                let first = if self.row == 1 { record.len() } else { self.widths.0 };
                self.widths = (first, record.len());
                Ok(Some(record))
            }
            Ok(false) if self.position.get() == Position::Quoted => {
                Err(ReadError::invalid(self.row, "the file ends early: a quote is not closed"))
            }
            Ok(false) if !self.has_last_line_break() && self.widths.1 < self.widths.0 => {
                Err(ReadError::invalid(self.row, "the file ends early: the last record lacks fields"))
            }
            Ok(false) => Ok(None),
            Err(error) => Err(read_error(error, self.row + 1)),
        }
    }

    /// Returns what is suspicious about the end of a file that was read. The line break of the last record is optional
    /// (RFC 4180, section 2), and spreadsheets omit it.
    pub(crate) fn issue_at_end(&self) -> Option<Issue> {
        let description = "has no line break, as if the file had been cut off; is it complete?";
        (!self.has_last_line_break()).then(|| Issue::new(self.row, "", description))
    }

    fn has_last_line_break(&self) -> bool {
        b"\r\n".contains(&self.room.0.1.get())
    }
}

/// Returns the error of a record.
fn read_error(error: csv::Error, row: u32) -> ReadError {
    match error.into_kind() {
        ErrorKind::Utf8 { .. } => ReadError::invalid(row, "must be UTF-8"),
        ErrorKind::UnequalLengths { .. } => ReadError::invalid(row, "must have as many fields as the first record"),
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            ReadError::invalid(row, "must not be longer than 256 KiB")
        }
        ErrorKind::Io(error) => error.into(),
        _ => ReadError::invalid(row, "is not a CSV record"),
    }
}

/// Where a text ends so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Before a field.
    Start,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field, which ends the field unless another quote follows.
    Quote,
}

impl Position {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Start | Self::Quote, b'"') | (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\r' | b'\n') => Self::Start,
            _ => Self::Unquoted,
        }
    }
}

/// A CSV text. The reader of the library accepts a quoted field that is cut off, and does not report its position.
struct Quotes<R> {
    text: R,
    position: Rc<Cell<Position>>,
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        self.position.set(buffer[..count].iter().fold(self.position.get(), |position, byte| position.after(*byte)));
        Ok(count)
    }
}

/// A text of which only a part can be read at a time.
pub(crate) struct Bounded<R> {
    text: R,
    room: Room,
}

/// How much of a text can be read, and the last byte that was read.
#[derive(Clone, Debug)]
pub(crate) struct Room(Rc<(Cell<usize>, Cell<u8>)>);

impl Room {
    /// Permits the next part.
    pub(crate) fn reset(&self) {
        self.0.0.set(MAX_ROW_BYTES);
    }
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(text: R) -> (Self, Room) {
        let room = Room(Rc::new((Cell::new(MAX_ROW_BYTES), Cell::new(b'\n'))));
        (Self { text, room: room.clone() }, room)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Room(room) = &self.room;
        if room.0.get() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.text.read(buffer)?;
        room.0.set(room.0.get().saturating_sub(count));
        if let Some(last) = buffer[..count].last() {
            room.1.set(*last);
        }
        Ok(count)
    }
}
