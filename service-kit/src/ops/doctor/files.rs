//! Checks of files and of the disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use anyhow::Context;

use super::Finding;
use crate::clock::Timestamp;

/// With less free space, the disk may be full soon.
const LOW_SPACE_BYTES: u64 = 1024 * 1024 * 1024;

/// With less free space, a backup or a large transaction may fail.
const MIN_SPACE_BYTES: u64 = 100 * 1024 * 1024;

/// Checks the free space for the file or the folder at this path. It need not exist yet.
#[must_use]
pub fn check_disk(path: &Path) -> Finding {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let name = existing.display();
    let free = match rustix::fs::statvfs(existing) {
        Ok(system) => system.f_bavail.saturating_mul(system.f_frsize),
        Err(error) => {
            return Finding::failed(
                "disk",
                format!("cannot read the free space of {name}: {error}"),
                format!("mount the file system of {name}"),
            );
        }
    };
    let message = format!("{} MiB of the file system of {name} are free", free / (1024 * 1024));
    let fix = format!("delete other files on the file system of {name}, or move to a larger one");
    match free {
        ..MIN_SPACE_BYTES => Finding::failed("disk", message, fix),
        MIN_SPACE_BYTES..LOW_SPACE_BYTES => Finding::warning("disk", message, fix),
        _ => Finding::ok("disk", message),
    }
}

/// Checks that only its owner can access a file or a folder with data of users. Returns `None` if it does not exist.
#[must_use]
pub fn check_private(name: &str, path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    let message = format!("{} has mode {mode:04o}", path.display());
    if mode & 0o077 == 0 {
        return Some(Finding::ok(name, message));
    }
    let expected = if metadata.is_dir() { 700 } else { 600 };
    let message = format!("{message}, so that other users can access the data of users");
    Some(Finding::warning(name, message, format!("chmod {expected} {}", path.display())))
}

/// Returns when a file was last changed.
///
/// # Errors
/// If it cannot be read.
pub fn modify_time(path: &Path) -> anyhow::Result<Timestamp> {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified());
    let time = time.with_context(|| format!("cannot read {}", path.display()))?;
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_seconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)))
}
