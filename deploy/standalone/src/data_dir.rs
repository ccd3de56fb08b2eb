//! The data directory: created on first start and locked by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use service_kit::auth::rotation::{self, NewKey};

/// A lock on the data directory, released on drop.
#[derive(Debug)]
pub struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Locks the data directory, and creates it on first start with mode 0700.
    ///
    /// # Errors
    /// If the directory cannot be created or written, or another process has locked it.
    pub fn acquire(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.with_context(|| format!("cannot create the data directory {name}"))?;
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
        // The process id is only for the error message above; the lock is what excludes other processes.
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}

/// Creates a random key file if there is none.
///
/// # Errors
/// If the file does not exist and cannot be written.
pub fn ensure_keys(path: &Path) -> anyhow::Result<()> {
    if path.exists() { Ok(()) } else { rotation::generate(NewKey::Hs256, path) }
}
