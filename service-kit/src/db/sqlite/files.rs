//! Copies and locks SQLite files, for backups and restores. These functions block.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, backup::Backup};

/// How long to wait for the writers of the servers that use the files.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// A file to copy.
#[derive(Clone, Debug)]
pub struct FileCopy {
    /// The database.
    pub source: PathBuf,
    /// The copy, which must not exist.
    pub target: PathBuf,
}

/// Copies databases as of one instant, while servers use them. Writes of the servers wait until all copies have begun,
/// which takes milliseconds, and continue while the files are copied. Each copy is checked for damage, is readable only by
/// its owner, and needs no write-ahead log.
///
/// # Errors
/// If a file cannot be read or written, is locked for too long, or is damaged.
pub fn copy_at_one_instant(copies: &[FileCopy]) -> anyhow::Result<()> {
    let mut writers = Vec::new();
    for FileCopy { source, .. } in copies {
        // With this lock, nobody else can commit.
        writers.push(lock(source, "begin immediate").with_context(|| describe(source))?);
    }
    let mut snapshots = Vec::new();
    for FileCopy { source, .. } in copies {
        snapshots.push(begin_snapshot(source).with_context(|| describe(source))?);
    }
    drop(writers);
    for (FileCopy { source, target }, snapshot) in copies.iter().zip(&snapshots) {
        copy(snapshot, target).with_context(|| describe(source))?;
    }
    Ok(())
}

/// A database file that no other process can use as long as this exists.
#[derive(Debug)]
pub struct ExclusiveFile {
    pub(in crate::db) connection: Connection,
}

impl ExclusiveFile {
    /// Locks a file, and copies its write-ahead log into it.
    ///
    /// # Errors
    /// If another process uses the file, or it is no database.
    pub fn lock(path: &Path) -> anyhow::Result<Self> {
        let locked = open(path, Duration::ZERO).and_then(|connection| {
            connection.pragma_update(None, "locking_mode", "exclusive")?;
            connection.execute_batch("begin exclusive; commit; pragma wal_checkpoint(truncate)")?;
            Ok(connection)
        });
        match locked {
            Ok(connection) => Ok(Self { connection }),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                bail!("{} is in use by another process; stop the server first", describe(path))
            }
            Err(error) => Err(error).with_context(|| describe(path)),
        }
    }
}

fn describe(path: &Path) -> String {
    format!("the database {}", path.display())
}

fn open(path: &Path, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    Ok(connection)
}

fn lock(path: &Path, begin: &str) -> anyhow::Result<Connection> {
    ensure!(path.exists(), "the file does not exist");
    let connection = open(path, LOCK_LIMIT)?;
    connection.execute_batch(begin)?;
    Ok(connection)
}

/// Opens a file and begins to read it, so that later reads do not see later commits.
fn begin_snapshot(path: &Path) -> anyhow::Result<Connection> {
    let connection = lock(path, "begin")?;
    connection.query_row("select count(*) from sqlite_master", [], |_| Ok(()))?;
    Ok(connection)
}

fn copy(snapshot: &Connection, target: &Path) -> anyhow::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let mut copied = open(target, Duration::ZERO)?;
    // All pages in one step: the snapshot does not keep writers waiting.
    Backup::new(snapshot, &mut copied)?.step(-1)?;
    // The journal mode of the source is part of the copy.
    copied.pragma_update(None, "journal_mode", "delete")?;
    let found: String = copied.query_row("pragma integrity_check(1)", [], |row| row.get(0))?;
    ensure!(found == "ok", "it is damaged: {found}");
    Ok(())
}
