//! Files that hold secrets: readable by their owner alone, and never overwritten.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// No secret file of ours comes near this size.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads a secret file.
///
/// # Errors
/// If it cannot be read, is not a plain file, is too large, or if others than its owner may read or write it.
pub fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let name = path.display();
    // To open a pipe would wait for its writer.
    let is_file =
        fs::metadata(path).map(|metadata| metadata.is_file()).with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(is_file, "{name} is not a plain file");
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
    let mode = metadata.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{name} has mode {mode:04o}, so that others can get at its secret: chmod 600 it"
    );
    anyhow::ensure!(metadata.len() <= MAX_BYTES, "{name} is too large");
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
    Ok(text)
}

/// Writes a new secret file with mode 0600. It appears whole or not at all, and is on disk when this returns.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is such a file, which is left as it is; else what the system says.
pub fn create(path: &Path, content: &str) -> io::Result<()> {
    let draft = format!(".{}.new", BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>()));
    write(path, &draft, content, |draft| {
        // A link, unlike a rename, never replaces what is there.
        fs::hard_link(draft, path)?;
        fs::remove_file(draft)
    })
}

/// Writes a secret file anew, with the owner and the mode that it has. Whoever reads it meanwhile finds the old content
/// or the new one, and the new one is on disk when this returns. It is done by one process at a time: the draft has one
/// name, so that one that was left behind is not left for ever.
///
/// # Errors
/// If it is not there or cannot be written; it is then left as it is.
pub fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let old = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = format!(".{name}.new");
    _ = fs::remove_file(folder_of(path).join(&draft));
    let written = write(path, &draft, content, |draft| {
        fs::set_permissions(draft, old.permissions())?;
        // Only a privileged user can give a file away; any other has made a file of its own.
        std::os::unix::fs::chown(draft, Some(old.uid()), Some(old.gid()))?;
        fs::rename(draft, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a draft beside the file, which `publish` puts in its place.
fn write(path: &Path, draft: &str, content: &str, publish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let draft = folder.join(draft);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        publish(&draft)
    })();
    if written.is_err() {
        // What went wrong is worth more than that it left something behind.
        _ = fs::remove_file(&draft);
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// As [`create`], with an error in words for a person.
///
/// # Errors
/// If there is such a file, which is left as it is, or it cannot be written.
pub fn generate(path: &Path, content: &str) -> anyhow::Result<()> {
    create(path, content).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::anyhow!("{} is there already and was left as it is", path.display()),
        _ => anyhow::Error::from(error).context(format!("cannot write {}", path.display())),
    })
}

/// A 32-byte key, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    #[must_use]
    pub fn random() -> Self {
        Self::new(crate::random::bytes())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }

    /// The key as it is written in files, and shown to a peer that holds it too.
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

/// Reads a 32-byte key that is written in base64url. `None` if there is no such file.
///
/// # Errors
/// As [`read`], or if the file does not hold such a key.
pub fn read_key(path: &Path) -> anyhow::Result<Option<Key>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read(path)?;
    let mut key = Zeroizing::new([0; 32]);
    match BASE64_URL_SAFE_NO_PAD.decode_slice(text.trim_end(), &mut *key) {
        Ok(32) => Ok(Some(Key(key))),
        _ => anyhow::bail!("{} does not hold a key of 32 bytes in base64url", path.display()),
    }
}

/// Makes a new random key and writes it as [`read_key`] reads it. If another process was faster, that one's counts.
///
/// # Errors
/// If the file cannot be written.
pub fn create_key(path: &Path) -> anyhow::Result<Key> {
    match create(path, &Key::random().encode()) {
        Ok(()) => tracing::info!(file = %path.display(), "made a new secret"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
    read_key(path)?.with_context(|| format!("{} has gone", path.display()))
}
