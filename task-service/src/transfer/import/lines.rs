//! The lines of iCalendar (RFC 5545, section 3.1).

use std::io::BufRead;

use super::sink::{MAX_ROW_BYTES, ReadError, read_line};

/// The lines of a file, unfolded.
pub(crate) struct Lines<'a, T> {
    text: &'a mut T,
    /// The number of the first line of the last result.
    pub(crate) row: u32,
    /// The number of lines that were read.
    count: u32,
    /// The line after the last result.
    next: Option<Vec<u8>>,
}

impl<'a, T: BufRead> Lines<'a, T> {
    pub(crate) fn new(text: &'a mut T) -> Self {
        Self { text, row: 0, count: 0, next: None }
    }

    /// Returns the next line.
    ///
    /// # Errors
    /// If it is too long.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        if self.count == 0 {
            self.next = self.read()?;
        }
        let Some(mut line) = self.next.take() else { return Ok(None) };
        self.row = self.count;
        loop {
            match self.read()? {
                Some(next) if matches!(next.first(), Some(b' ' | b'\t')) => line.extend_from_slice(&next[1..]),
                next => {
                    self.next = next;
                    return Ok(Some(line));
                }
            }
            if line.len() > MAX_ROW_BYTES {
                return Err(ReadError::invalid(self.row, "must not be longer than 256 KiB"));
            }
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut line = Vec::new();
        let is_read = read_line(self.text, self.count + 1, &mut line)?;
        self.count += u32::from(is_read);
        Ok(is_read.then_some(line))
    }
}
