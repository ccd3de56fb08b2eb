//! The file of a backup: a tar archive. Its last member contains the SHA-256 checksum of everything before it, so that a
//! missing end and any changed byte are detected.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{self, SHA256};
use tempfile::NamedTempFile;

use super::manifest::{FileEntry, Manifest};

/// The name of the manifest in the archive. It is the last member but one.
const MANIFEST: &str = "manifest.json";

/// Maximum size of a manifest; those of this program are much smaller.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// The name of the last member.
const CHECKSUM: &str = "archive.sha256";

/// The size of a block of a tar archive.
const BLOCK: usize = 512;

/// The size of the last member: its header, its content, and the two blocks of zeros that end every tar archive.
const TRAILER_BYTES: usize = 4 * BLOCK;

/// The size of the buffers.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes an archive to a temporary file with mode 0600, which gets its name when it is complete.
pub struct ArchiveWriter {
    file: BufWriter<NamedTempFile>,
    checksum: digest::Context,
    entries: Vec<FileEntry>,
}

impl ArchiveWriter {
    /// Begins an archive in this directory.
    ///
    /// # Errors
    /// If the directory is not writable.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(".taskey-backup-").tempfile_in(folder)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { file, checksum: digest::Context::new(&SHA256), entries: Vec::new() })
    }

    /// Appends a file. `tables` and `epoch` describe a database.
    ///
    /// # Errors
    /// If the content cannot be read, does not have this size, or cannot be written.
    pub fn append(
        &mut self,
        name: &str,
        size: u64,
        content: impl Read,
        tables: Option<i64>,
        epoch: Option<String>,
    ) -> anyhow::Result<()> {
        let sha256 = self.write_member(name, size, content)?;
        self.entries.push(FileEntry { name: name.to_owned(), size, sha256, tables, epoch });
        Ok(())
    }

    /// Appends the manifest and the checksum, and gives the file its name. Returns the manifest. The file is on disk when
    /// this function returns.
    ///
    /// # Errors
    /// If the file exists, which is not changed then, or cannot be written.
    pub fn finish(mut self, path: &Path, create_time: String) -> anyhow::Result<Manifest> {
        let manifest = Manifest::new(create_time, std::mem::take(&mut self.entries));
        let json = manifest.to_json()?;
        self.write_member(MANIFEST, json.len() as u64, &json[..])?;
        self.file.write_all(&trailer(&hex(&self.checksum.clone().finish()))?)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).with_context(|| format!("cannot create {}", path.display()))?;
        File::open(folder_of(path))?.sync_all()?;
        Ok(manifest)
    }

    /// Writes a member, and returns its checksum.
    fn write_member(&mut self, name: &str, size: u64, content: impl Read) -> anyhow::Result<String> {
        let Self { file, checksum, .. } = self;
        let mut output = Checksummed { inner: file, checksum };
        output.write_all(&header(name, size)?)?;
        let mut own = digest::Context::new(&SHA256);
        let mut content = Checksummed { inner: content.take(size), checksum: &mut own };
        let written = io::copy(&mut content, &mut output)?;
        ensure!(written == size, "{name} was truncated while it was read");
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut output)?;
        Ok(hex(&own.finish()))
    }
}

/// Returns the directory of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checks that an archive is complete and undamaged, and returns its manifest.
///
/// # Errors
/// If it cannot be read, is no backup, is damaged, or was created by a newer version.
pub fn verify(path: &Path) -> anyhow::Result<Manifest> {
    read(path, |_, content| Ok(io::copy(content, &mut io::sink()).map(drop)?))
}

/// Reads an archive, and calls `receive` with the name and the content of each file. Returns the manifest.
///
/// # Errors
/// As [`verify`], or those of `receive`. What was received is then not usable.
pub fn read(path: &Path, receive: impl FnMut(&str, &mut dyn Read) -> anyhow::Result<()>) -> anyhow::Result<Manifest> {
    let read = || {
        let mut file = File::open(path)?;
        let (body, expected) = read_trailer(&mut file)?;
        read_body(file.take(body), &expected, receive)
    };
    read().with_context(|| format!("{} is not usable", path.display()))
}

/// Returns the length of an archive without its last member, and that member. Goes back to the beginning.
fn read_trailer(file: &mut File) -> anyhow::Result<(u64, Vec<u8>)> {
    const NO_END: &str = "it is no backup of Taskey, or its end is missing";
    let body = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64).context(NO_END)?;
    file.seek(SeekFrom::Start(body))?;
    let mut trailer = vec![0; TRAILER_BYTES];
    file.read_exact(&mut trailer)?;
    ensure!(trailer.starts_with(CHECKSUM.as_bytes()), NO_END);
    file.rewind()?;
    Ok((body, trailer))
}

fn read_body(
    body: impl Read,
    expected: &[u8],
    mut receive: impl FnMut(&str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<Manifest> {
    const DAMAGED: &str = "it is damaged: its checksum does not match its content";
    let mut checksum = digest::Context::new(&SHA256);
    let mut body = Checksummed { inner: BufReader::with_capacity(BUFFER_BYTES, body), checksum: &mut checksum };
    let (mut found, mut manifest) = (Vec::new(), None);
    let mut archive = tar::Archive::new(&mut body);
    for entry in archive.entries().context(DAMAGED)? {
        let mut entry = entry.context(DAMAGED)?;
        let (name, size) = (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.size());
        if name == MANIFEST {
            let mut json = Vec::new();
            entry.by_ref().take(MAX_MANIFEST_BYTES).read_to_end(&mut json).context(DAMAGED)?;
            manifest = Some(json);
            continue;
        }
        let mut own = digest::Context::new(&SHA256);
        let mut content = Checksummed { inner: entry, checksum: &mut own };
        receive(&name, &mut content)?;
        io::copy(&mut content, &mut io::sink()).context(DAMAGED)?;
        found.push((name, size, hex(&own.finish())));
    }
    io::copy(&mut body, &mut io::sink())?;
    ensure!(trailer(&hex(&checksum.finish()))? == expected, DAMAGED);
    let manifest = Manifest::parse(&manifest.context("it has no manifest")?)?;
    let listed = manifest.files.iter().map(|file| (file.name.clone(), file.size, file.sha256.clone()));
    if !listed.eq(found) {
        bail!("its manifest does not match its files");
    }
    Ok(manifest)
}

/// Returns the header of a member.
fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Returns the end of an archive with this checksum.
fn trailer(checksum: &str) -> io::Result<Vec<u8>> {
    let content = format!("{checksum}\n");
    let mut trailer = header(CHECKSUM, content.len() as u64)?.to_vec();
    trailer.extend_from_slice(content.as_bytes());
    trailer.resize(TRAILER_BYTES, 0);
    Ok(trailer)
}

fn hex(digest: &digest::Digest) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Computes the checksum of all bytes that pass through.
struct Checksummed<'a, T> {
    inner: T,
    checksum: &'a mut digest::Context,
}

impl<T: Read> Read for Checksummed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.checksum.update(&buffer[..length]);
        Ok(length)
    }
}

impl<T: Write> Write for Checksummed<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.checksum.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
