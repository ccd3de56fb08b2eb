//! Compares the tables of a database with the migrations of this program.

use anyhow::bail;
use sqlx::migrate::{MigrateError, Migrator};

/// Whether existing tables are migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Create tables, and migrate older ones. For servers.
    Always,
    /// Create tables in an empty database, and reject older tables. For command-line tools, which may be newer than the
    /// running server.
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

impl Contents {
    /// Describes the tables for the command `doctor`.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "there are no tables; the server creates them when it starts",
            Self::Current => "the tables are those of this version",
            Self::Outdated => "the tables are older; the server migrates them when it starts",
        }
    }
}

impl Migrate {
    /// Checks that a database with these contents may be used.
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

/// Compares a database with the migrations of this program. `applied` is `None` if it has no table of migrations.
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
    for found in &applied {
        let expected = migrations.iter().find(|expected| expected.version == found.version);
        let expected = expected.ok_or_else(|| explain(MigrateError::VersionMissing(found.version)))?;
        if *expected.checksum != *found.checksum {
            return Err(explain(MigrateError::VersionMismatch(found.version)));
        }
    }
    Ok(match applied.len() {
        0 => Contents::Nothing,
        count if count < migrations.iter().count() => Contents::Outdated,
        _ => Contents::Current,
    })
}

/// Describes in one line what is wrong with the tables of a database.
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
