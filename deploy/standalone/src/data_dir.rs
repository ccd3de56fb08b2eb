//! The data directory: made at the first start, used by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use service_kit::auth::rotation::{self, NewKey};

/// Holds the data directory for this process as long as it lives.
#[derive(Debug)]
pub struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Takes the data directory, and makes it at the first start, for the user alone.
    ///
    /// # Errors
    /// If it cannot be made or written, or another process has it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot make the data directory {name}"))?;
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let mut lock =
            options.open(path.join("taskey.lock")).with_context(|| format!("cannot use the data directory {name}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path.join("taskey.lock")).unwrap_or_default();
                anyhow::bail!("the data directory {name} is in use by process {}", holder.trim());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the data directory {name}"));
            }
        }
        // Only a hint for people; the lock is what counts.
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}

/// Makes a random key file at the first start.
///
/// # Errors
/// If there is none and it cannot be written.
pub fn ensure_keys(path: &Path) -> anyhow::Result<()> {
    if path.exists() { Ok(()) } else { rotation::generate(NewKey::Hs256, path) }
}
