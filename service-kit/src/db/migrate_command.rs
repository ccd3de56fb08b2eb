//! The command `migrate`.

use std::io::{self, Write};

use anyhow::{Context, ensure};
use clap::Args;
use sqlx::migrate::Migrator;

use super::{DatabaseUrl, Db, Migrate, PendingMigration, PoolArgs, TableStatus};

/// The database of a service, with its migrations.
#[derive(Clone, Copy, Debug)]
pub struct ServiceDatabase<'a> {
    /// The name of the service.
    pub service: &'static str,
    /// The location of the database.
    pub url: &'a DatabaseUrl,
    /// The schema of the tables on PostgreSQL.
    pub schema: &'a str,
    /// The migrations of this program.
    pub migrations: &'a Migrator,
    /// The settings of its connections.
    pub pool: &'a PoolArgs,
    /// The tables whose columns are in several tables on SQLite: the name, and what follows `from`.
    pub sqlite_joins: &'static [(&'static str, &'static str)],
}

impl ServiceDatabase<'_> {
    /// Returns what follows `from` in a statement that reads all columns of a table on SQLite.
    pub(super) fn sqlite_source<'t>(&self, table: &'t str) -> &'t str {
        self.sqlite_joins.iter().find(|(name, _)| *name == table).map_or(table, |(_, from)| from)
    }

    /// Returns which migrations the tables lack, and changes nothing.
    ///
    /// # Errors
    /// As [`Db::inspect`].
    pub async fn status(&self) -> anyhow::Result<TableStatus> {
        Db::inspect(self.url, self.schema, self.migrations).await
    }

    /// Checks that the database is usable, and changes nothing. `migrate` determines whether missing and older tables are
    /// usable.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn check(&self, migrate: Migrate) -> anyhow::Result<()> {
        if migrate == Migrate::Unchecked {
            return Ok(());
        }
        migrate.check(&self.status().await?).with_context(|| format!("the database {:?}", self.url))
    }

    /// Creates or migrates the tables, and returns the migrations that were applied.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn migrate(&self) -> anyhow::Result<Vec<PendingMigration>> {
        Db::migrate(self.url, self.schema, self.migrations, self.pool).await
    }
}

/// The options of the command.
#[derive(Args, Clone, Copy, Debug)]
pub struct MigrateCommand {
    /// Change nothing, and fail if migrations are missing
    #[arg(long, conflicts_with = "plan")]
    pub check: bool,

    /// Change nothing, and print the missing migrations
    #[arg(long)]
    pub plan: bool,
}

impl MigrateCommand {
    /// Reports whether the command may change the databases.
    #[must_use]
    pub fn writes(self) -> bool {
        !self.check && !self.plan
    }

    /// Runs the command on the databases of a program.
    ///
    /// # Errors
    /// If a database is not usable, or `--check` finds missing migrations.
    pub async fn run(self, databases: &[ServiceDatabase<'_>]) -> anyhow::Result<()> {
        if self.writes() {
            return apply(databases).await;
        }
        let mut missing = Vec::new();
        for database in databases {
            let TableStatus { pending, newer, .. } = database.status().await?;
            if self.plan {
                print_plan(database.service, &pending, newer)?;
            }
            missing.extend(pending.iter().map(|migration| format!("{}: {migration}", database.service)));
        }
        let is_complete = self.plan || missing.is_empty();
        ensure!(is_complete, "migrations are missing: {}; apply them with the command `migrate`", missing.join(", "));
        Ok(())
    }
}

async fn apply(databases: &[ServiceDatabase<'_>]) -> anyhow::Result<()> {
    for database in databases {
        let applied = database.migrate().await?;
        let mut output = io::stdout().lock();
        for migration in &applied {
            writeln!(output, "{}: applied {migration}", database.service)?;
        }
        if applied.is_empty() {
            writeln!(output, "{}: the tables are up to date", database.service)?;
        }
    }
    Ok(())
}

fn print_plan(service: &str, pending: &[PendingMigration], newer: Option<i64>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for migration in pending {
        writeln!(output, "{service}: {migration}")?;
    }
    match newer {
        Some(version) => writeln!(output, "{service}: the tables are newer (version {version}) and compatible"),
        None if pending.is_empty() => writeln!(output, "{service}: the tables are up to date"),
        None => Ok(()),
    }
}
