//! Reads zip archives (APPNOTE.TXT of PKWARE) without ZIP64, encryption and more than a thousand files. What is read of all
//! files together is bounded, however small the archive is.

use std::io::{self, Read, SeekFrom};

use flate2::{Crc, read::DeflateDecoder};

use super::{
    sink::{File, ReadError},
    spool::MAX_FILE_BYTES,
};

const MAX_ENTRIES: usize = 1000;

/// The end of the central directory has this size and a comment of up to 64 KiB.
const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = 0xffff;

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const ENTRY_SIGNATURE: [u8; 4] = *b"PK\x01\x02";
const LOCAL_SIGNATURE: [u8; 4] = *b"PK\x03\x04";

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Set in the flags of an encrypted file.
const ENCRYPTED: u16 = 1;

/// An archive.
pub(crate) struct Archive<'f> {
    file: &'f mut dyn File,
    entries: Vec<ArchiveEntry>,
    /// How much can be read of all files together.
    room: u64,
}

/// A file of an archive.
pub(crate) struct ArchiveEntry {
    pub(crate) name: String,
    method: u16,
    /// The checksum of its contents.
    crc: u32,
    compressed: u64,
    /// The position of its header.
    offset: u64,
}

impl<'f> Archive<'f> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// If it is not an archive, was cut off, or has features that are not supported.
    pub(crate) fn open(file: &'f mut dyn File) -> Result<Self, ReadError> {
        let length = file.seek(SeekFrom::End(0))?;
        let tail_bytes = length.min((END_BYTES + MAX_COMMENT_BYTES) as u64);
        file.seek(SeekFrom::Start(length - tail_bytes))?;
        let mut tail = Vec::new();
        file.take(tail_bytes).read_to_end(&mut tail)?;
        let end = tail.windows(END_SIGNATURE.len()).rposition(|bytes| bytes == END_SIGNATURE);
        let end = end.and_then(|start| tail.get(start..start + END_BYTES));
        let end = end.ok_or_else(|| ReadError::invalid(1, "the file is not a zip archive, or ends early"))?;
        let count = usize::from(u16_at(end, 10));
        if count > MAX_ENTRIES {
            return Err(ReadError::invalid(1, "the archive has more than 1000 files"));
        }
        file.seek(SeekFrom::Start(u32_at(end, 16).into()))?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(ArchiveEntry::read(file)?);
        }
        Ok(Self { file, entries, room: MAX_FILE_BYTES as u64 })
    }

    pub(crate) fn entries(&self) -> &[ArchiveEntry] {
        &self.entries
    }

    /// Returns the contents of a file.
    ///
    /// # Errors
    /// If its header is invalid.
    pub(crate) fn read(&mut self, index: usize) -> Result<impl Read, ReadError> {
        let ArchiveEntry { method, crc, compressed, offset, .. } = self.entries[index];
        self.file.seek(SeekFrom::Start(offset))?;
        let mut header = [0; 30];
        read_exact(self.file, &mut header)?;
        if header[..4] != LOCAL_SIGNATURE {
            return Err(damaged());
        }
        let skipped = i64::from(u16_at(&header, 26)) + i64::from(u16_at(&header, 28));
        self.file.seek(SeekFrom::Current(skipped))?;
        let contents = (&mut *self.file).take(compressed);
        let contents: Box<dyn Read + '_> = match method {
            STORED => Box::new(contents),
            _ => Box::new(DeflateDecoder::new(contents)),
        };
        Ok(Limited { contents, room: &mut self.room, crc: Crc::new(), expected: crc })
    }
}

impl ArchiveEntry {
    fn read(file: &mut dyn File) -> Result<Self, ReadError> {
        let mut header = [0; 46];
        read_exact(file, &mut header)?;
        let (flags, method) = (u16_at(&header, 8), u16_at(&header, 10));
        if header[..4] != ENTRY_SIGNATURE {
            return Err(damaged());
        }
        if flags & ENCRYPTED != 0 || ![STORED, DEFLATED].contains(&method) {
            return Err(ReadError::invalid(1, "the archive is encrypted, or has an unknown compression method"));
        }
        let mut name = vec![0; u16_at(&header, 28).into()];
        read_exact(file, &mut name)?;
        let skipped = i64::from(u16_at(&header, 30)) + i64::from(u16_at(&header, 32));
        file.seek(SeekFrom::Current(skipped))?;
        Ok(Self {
            name: String::from_utf8_lossy(&name).into_owned(),
            method,
            crc: u32_at(&header, 16),
            compressed: u32_at(&header, 20).into(),
            offset: u32_at(&header, 42).into(),
        })
    }
}

/// The contents of a file, of which no more is read than there is room for. Reading fails at the end if they are damaged.
struct Limited<'a> {
    contents: Box<dyn Read + 'a>,
    room: &'a mut u64,
    crc: Crc,
    expected: u32,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.contents.read(buffer)?;
        *self.room = self.room.checked_sub(count as u64).ok_or(io::ErrorKind::QuotaExceeded)?;
        self.crc.update(&buffer[..count]);
        let is_damaged = count == 0 && !buffer.is_empty() && self.crc.sum() != self.expected;
        if is_damaged { Err(io::ErrorKind::InvalidData.into()) } else { Ok(count) }
    }
}

fn read_exact(file: &mut dyn File, buffer: &mut [u8]) -> Result<(), ReadError> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(),
        _ => error.into(),
    })
}

fn damaged() -> ReadError {
    ReadError::invalid(1, "the zip archive is damaged")
}

fn u16_at(bytes: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([bytes[index], bytes[index + 1]])
}

fn u32_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes([bytes[index], bytes[index + 1], bytes[index + 2], bytes[index + 3]])
}
