//! Reads texts in parts of bounded size.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use super::sink::{MAX_ROW_BYTES, ReadError};

/// The records of a file, each of bounded size.
pub(crate) struct Records<R> {
    reader: Reader<Bounded<Quotes<R>>>,
    room: Room,
    position: Rc<Cell<Position>>,
    /// The number of the last record.
    pub(crate) row: u32,
}

impl<R: Read> Records<R> {
    /// Creates a reader. Unless the file is flexible, all records must have as many fields as the first.
    pub(crate) fn new(text: R, is_flexible: bool) -> Self {
        let position = Rc::new(Cell::new(Position::Start));
        let (text, room) = Bounded::new(Quotes { text, position: Rc::clone(&position) });
        let reader = ReaderBuilder::new().has_headers(false).flexible(is_flexible).from_reader(text);
        Self { reader, room, position, row: 0 }
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// If it is too long or malformed, or if the file ends early.
    pub(crate) fn next(&mut self) -> Result<Option<StringRecord>, ReadError> {
        self.room.reset();
        self.row += 1;
        let mut record = StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(true) => Ok(Some(record)),
            Ok(false) if self.position.get() == Position::Quoted => {
                Err(ReadError::invalid(self.row - 1, "the file ends early: a quote is not closed"))
            }
            Ok(false) if b"\r\n".contains(&self.room.0.1.get()) => Ok(None),
            Ok(false) => Err(ReadError::invalid(self.row, "the file ends early: the last record has no line break")),
            Err(error) => Err(match error.into_kind() {
                ErrorKind::Utf8 { .. } => ReadError::invalid(self.row, "must be UTF-8"),
                ErrorKind::UnequalLengths { .. } => {
                    ReadError::invalid(self.row, "must have as many fields as the first record")
                }
                ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    ReadError::invalid(self.row, "must not be longer than 256 KiB")
                }
                ErrorKind::Io(error) => error.into(),
                _ => ReadError::invalid(self.row, "is not a CSV record"),
            }),
        }
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
