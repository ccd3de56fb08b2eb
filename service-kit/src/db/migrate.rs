//! Compares the tables of a database with those of this program.

use anyhow::bail;
use sqlx::migrate::{MigrateError, Migrator};

/// Whether tables that are there already are brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Create tables, and bring older ones up to date. That is for servers.
    Always,
    /// Create tables, and refuse older ones. That is for command-line tools, which may be newer than the server that is
    /// running.
    IfEmpty,
}

/// What a database contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// No tables.
    Nothing,
    /// The tables of this version.
    Current,
    /// The tables of an older version.
    Outdated,
}

impl Migrate {
    /// Decides whether a database may be used.
    pub(super) fn check(self, contents: Contents) -> anyhow::Result<()> {
        if (self, contents) == (Self::IfEmpty, Contents::Outdated) {
            bail!(
                "its tables are older than this program; start the new version of the server first, or use the tool of \
                 the version that is running"
            );
        }
        Ok(())
    }
}

/// A migration that has been applied to a database.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Applied {
    version: i64,
    checksum: Vec<u8>,
}

/// Compares a database with the migrations of this program. `applied` is `None` if the database does not record any.
///
/// # Errors
/// If the tables are not those of this program, or newer.
pub(super) fn contents(
    has_tables: bool,
    applied: Option<Vec<Applied>>,
    migrations: &Migrator,
) -> anyhow::Result<Contents> {
    let Some(applied) = applied else {
        if has_tables {
            bail!("it contains tables of another program");
        }
        return Ok(Contents::Nothing);
    };
    for done in &applied {
        let known = migrations.iter().find(|known| known.version == done.version);
        let known = known.ok_or_else(|| explain(MigrateError::VersionMissing(done.version)))?;
        if *known.checksum != *done.checksum {
            return Err(explain(MigrateError::VersionMismatch(done.version)));
        }
    }
    Ok(match applied.len() {
        0 => Contents::Nothing,
        count if count < migrations.iter().count() => Contents::Outdated,
        _ => Contents::Current,
    })
}

/// Says in one line what is wrong with the tables of a database.
pub(super) fn explain(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::VersionMissing(version) => {
            anyhow::anyhow!("its tables are newer (version {version}) than this program; nothing was changed")
        }
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!("its tables (version {version}) are not those of this program; nothing was changed")
        }
        error => error.into(),
    }
}
