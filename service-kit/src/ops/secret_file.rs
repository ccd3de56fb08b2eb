//! Files that contain secrets: inaccessible to other users, and never overwritten in place.

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Maximum size of a file. Secrets are much smaller, and so are the certificates of all public authorities together.
const MAX_BYTES: u64 = 1024 * 1024;

/// The error for a secret file that other users can read or write.
#[derive(Debug, thiserror::Error)]
#[error("{} has mode {mode:04o}, so that other users can access its secret: chmod 600 it", path.display())]
pub struct AccessibleToOthers {
    /// The file.
    pub path: PathBuf,
    /// The mode of the file.
    pub mode: u32,
}

/// Reads a secret file.
///
/// # Errors
/// If it cannot be read, is not a regular file, is too large, or if other users may read or write it. The group may
/// read a file that root owns, because Kubernetes and Docker give secrets to a program in this way.
pub fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let name = path.display();
    let (file, metadata) = open(path)?;
    let mode = metadata.permissions().mode() & 0o777;
    if !is_private(mode, metadata.uid()) {
        return Err(AccessibleToOthers { path: path.to_owned(), mode }.into());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
    Ok(text)
}

/// Reads a file without secrets, such as one with certificates.
///
/// # Errors
/// If it cannot be read, is not a regular file, or is too large.
pub fn read_public(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Reports whether only the owner of a file can access it. Of a file that root owns, its group may read, too.
fn is_private(mode: u32, owner: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

/// Opens a regular file of a limited size.
fn open(path: &Path) -> anyhow::Result<(File, Metadata)> {
    let name = path.display();
    // Opening a pipe would block until it has a writer.
    let is_file =
        fs::metadata(path).map(|metadata| metadata.is_file()).with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(is_file, "{name} is not a regular file");
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(metadata.len() <= MAX_BYTES, "{name} is too large");
    Ok((file, metadata))
}

/// Creates a secret file with mode 0600, atomically. The file is on disk when this function returns.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the file exists, which is not changed then; otherwise the error of the system.
pub fn create(path: &Path, content: &str) -> io::Result<()> {
    let temporary = format!(".{}.new", BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>()));
    write(path, &temporary, content, |temporary| {
        // A link, unlike a rename, never replaces an existing file.
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    })
}

/// Replaces the content of a secret file, atomically, and keeps its owner and mode. The new content is on disk when
/// this function returns. Only one process at a time may call it, because the temporary file has a fixed name, so that
/// the next call removes one that was left behind.
///
/// # Errors
/// If the file does not exist or cannot be written. It is not changed then.
pub fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let old = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = format!(".{name}.new");
    _ = fs::remove_file(folder_of(path).join(&temporary));
    let written = write(path, &temporary, content, |temporary| {
        fs::set_permissions(temporary, old.permissions())?;
        // Only a privileged user can set another owner. For any other user, the owner must already be the same.
        std::os::unix::fs::chown(temporary, Some(old.uid()), Some(old.gid()))?;
        fs::rename(temporary, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a temporary file in the directory of the file. `publish` moves it into place.
fn write(path: &Path, temporary: &str, content: &str, publish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let temporary = folder.join(temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        publish(&temporary)
    })();
    if written.is_err() {
        // The first error is more useful than one of the cleanup.
        _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

/// Returns the directory of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Like [`create`], with an error message for the user.
///
/// # Errors
/// If the file exists, which is not changed then, or if it cannot be written.
pub fn generate(path: &Path, content: &str) -> anyhow::Result<()> {
    create(path, content).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::anyhow!("{} already exists and was not changed", path.display()),
        _ => anyhow::Error::from(error).context(format!("cannot write {}", path.display())),
    })
}

/// A 32-byte key, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Creates a key from its bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Creates a random key.
    #[must_use]
    pub fn random() -> Self {
        Self::new(crate::random::bytes())
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }

    /// Decodes a key in base64url. Returns `None` if the text is not the encoding of 32 bytes.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        matches!(BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut *key), Ok(32)).then_some(Self(key))
    }

    /// Returns the key in base64url, as it is written to files and sent to peers that have the same key.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Locks the folder of a secret file until the value is dropped, so that only one process changes the file. The file itself
/// cannot be locked, because it is replaced.
///
/// # Errors
/// If another process has locked the folder.
pub fn lock_folder(path: &Path) -> anyhow::Result<File> {
    let folder = File::open(folder_of(path))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => anyhow::bail!("a file in this folder is being rotated already"),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the folder"),
    }
}

/// Reads a 32-byte key in base64url. Returns `None` if the file does not exist.
///
/// # Errors
/// As [`read`], or if the file does not contain such a key.
pub fn read_key(path: &Path) -> anyhow::Result<Option<Key>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read(path)?;
    let key = Key::decode(text.trim_end());
    key.with_context(|| format!("{} does not contain a key of 32 bytes in base64url", path.display())).map(Some)
}

/// Creates a file with a random key, and returns the key. If the file was created in the meantime, returns its key.
///
/// # Errors
/// If the file cannot be written.
pub fn create_key(path: &Path) -> anyhow::Result<Key> {
    match create(path, &Key::random().encode()) {
        Ok(()) => tracing::info!(file = %path.display(), "created a new secret"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
    read_key(path)?.with_context(|| format!("{} was deleted", path.display()))
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn group_may_only_read_files_of_root() {
        for mode in [0o600, 0o400, 0o700] {
            assert!(is_private(mode, 0) && is_private(mode, 1000), "{mode:o}");
        }
        for mode in [0o440, 0o640] {
            assert!(is_private(mode, 0) && !is_private(mode, 1000), "{mode:o}");
        }
        for mode in [0o620, 0o660, 0o604, 0o644, 0o444, 0o601, 0o777] {
            assert!(!is_private(mode, 0) && !is_private(mode, 1000), "{mode:o}");
        }
    }
}
