//! Compares the tables of a database with the migrations of this program.

use std::fmt;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use sqlx::migrate::{MigrateError, Migration, Migrator};

/// What happens to tables that are missing or older than the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Migrate {
    /// Create tables, and migrate older ones.
    #[value(name = "auto")]
    Always,
    /// Reject missing and older tables.
    #[value(name = "check")]
    Never,
    /// Do not compare the tables with the program.
    #[value(name = "off")]
    Unchecked,
    /// Create tables in an empty database, and reject older tables. For command-line tools, which may be newer than the
    /// running server.
    #[value(skip)]
    IfEmpty,
}

impl Migrate {
    /// Checks that a database with these tables may be used.
    ///
    /// # Errors
    /// If tables are missing or older, and are not migrated.
    pub fn check(self, tables: &TableStatus) -> anyhow::Result<()> {
        match self {
            Self::IfEmpty if !tables.is_empty && !tables.pending.is_empty() => bail!(
                "its tables are older than this program; start the new version of the server first, or use the tool of \
                 the version that is running"
            ),
            Self::Never if tables.is_empty => {
                bail!("it has no tables; create them with the command `migrate`, or start with --migrate auto")
            }
            Self::Never if !tables.pending.is_empty() => bail!(
                "its tables are older than this program; migrate them with the command `migrate`, or start with \
                 --migrate auto"
            ),
            _ => Ok(()),
        }
    }
}

/// A migration that the tables of a database lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// The number of the migration.
    pub version: i64,
    /// What the migration is about.
    pub name: String,
}

impl From<&Migration> for PendingMigration {
    fn from(migration: &Migration) -> Self {
        Self { version: migration.version, name: migration.description.to_string() }
    }
}

impl fmt::Display for PendingMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04} {}", self.version, self.name)
    }
}

/// The tables of a database, compared with the migrations of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// Whether there are no tables.
    pub is_empty: bool,
    /// The last migration that was applied, or 0.
    pub version: i64,
    /// The migrations that the tables lack, in their order.
    pub pending: Vec<PendingMigration>,
    /// The version of the tables if a newer program has migrated them. This program can use them nevertheless.
    pub newer: Option<i64>,
}

/// A migration that has been applied to a database.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Applied {
    version: i64,
    checksum: Vec<u8>,
}

/// What a database contains.
#[derive(Debug)]
pub(super) struct FoundTables {
    pub(super) has_tables: bool,
    /// The migrations that have been applied; `None` without a table of migrations.
    pub(super) applied: Option<Vec<Applied>>,
    /// The rows of `compatible_migrations`: the migrations that older programs can ignore.
    pub(super) compatible: Vec<i64>,
}

impl FoundTables {
    /// Compares the tables with the migrations of this program.
    ///
    /// # Errors
    /// If the tables are not those of this program, or newer and not compatible with it.
    pub(super) fn compare(self, migrations: &Migrator) -> anyhow::Result<TableStatus> {
        let Some(applied) = self.applied else {
            ensure!(!self.has_tables, "it contains tables of another program");
            return Ok(TableStatus { is_empty: true, version: 0, pending: pending(migrations, &[]), newer: None });
        };
        let mut newer = None;
        for found in &applied {
            match migrations.iter().find(|expected| expected.version == found.version) {
                Some(expected) if *expected.checksum != *found.checksum => {
                    return Err(explain(MigrateError::VersionMismatch(found.version)));
                }
                Some(_) => {}
                None if self.compatible.contains(&found.version) => newer = newer.max(Some(found.version)),
                None => return Err(explain(MigrateError::VersionMissing(found.version))),
            }
        }
        let pending = pending(migrations, &applied);
        if let (Some(newer), Some(lacking)) = (newer, pending.first()) {
            bail!("its tables are newer (version {newer}) than this program, but lack its migration {lacking}");
        }
        let version = applied.iter().map(|found| found.version).max().unwrap_or(0);
        Ok(TableStatus { is_empty: applied.is_empty(), version, pending, newer })
    }
}

/// Returns the migrations that have not been applied.
fn pending(migrations: &Migrator, applied: &[Applied]) -> Vec<PendingMigration> {
    let is_pending = |migration: &&Migration| !applied.iter().any(|found| found.version == migration.version);
    migrations.iter().filter(is_pending).map(PendingMigration::from).collect()
}

/// Describes in one line what is wrong with the tables of a database.
pub(super) fn explain(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::VersionMissing(version) => anyhow::anyhow!(
            "its tables are newer (version {version}) than this program, which cannot use them; nothing was changed"
        ),
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!("its tables (version {version}) are not those of this program; nothing was changed")
        }
        error => error.into(),
    }
}
