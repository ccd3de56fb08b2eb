//! Opens, migrates and closes a database.

use std::time::Duration;

use sqlx::migrate::Migrator;
use tokio::time::timeout;

use super::{
    DatabaseUrl, Db, Inner, PoolArgs,
    migrate::{Migrate, PendingMigration, TableStatus},
    postgres::{self, Postgres},
    sqlite::{self, Sqlite},
};

/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

impl Db {
    /// Opens the database of a service. On PostgreSQL its tables are in `schema`, so that several services can share a
    /// database. Missing tables are created; older ones are migrated or rejected, depending on `migrate`.
    ///
    /// # Errors
    /// If the database cannot be reached, is no database, or contains tables of another program or of a newer version. It
    /// is not changed then.
    pub async fn open(
        url: &DatabaseUrl,
        schema: &str,
        migrations: &Migrator,
        migrate: Migrate,
        args: &PoolArgs,
    ) -> anyhow::Result<Self> {
        Ok(Self(match url {
            DatabaseUrl::Sqlite(path) => Inner::Sqlite(Sqlite::open(path, migrations, migrate, args).await?),
            DatabaseUrl::Postgres(url) => {
                Inner::Postgres(Box::new(Postgres::open(url, schema, migrations, migrate, args).await?))
            }
        }))
    }

    /// Compares the tables with the migrations of this program, and changes nothing. A file or a schema need not exist.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn inspect(url: &DatabaseUrl, schema: &str, migrations: &Migrator) -> anyhow::Result<TableStatus> {
        match url {
            DatabaseUrl::Sqlite(path) => sqlite::setup::inspect(path, migrations).await,
            DatabaseUrl::Postgres(url) => postgres::setup::inspect(url, schema, migrations).await,
        }
    }

    /// Creates missing tables, and migrates older ones. Returns the migrations that were applied.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn migrate(
        url: &DatabaseUrl,
        schema: &str,
        migrations: &Migrator,
        args: &PoolArgs,
    ) -> anyhow::Result<Vec<PendingMigration>> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                sqlite::setup::prepare(path, migrations, Migrate::Always, args.database_timeout).await
            }
            DatabaseUrl::Postgres(url) => {
                let direct = postgres::setup::direct_url(url, args)?;
                postgres::setup::migrate(direct, schema, migrations, Migrate::Always).await
            }
        }
    }

    /// Closes the connections. Waits at most two seconds.
    pub async fn close(&self) {
        let close = async {
            match &self.0 {
                Inner::Sqlite(db) => db.close().await,
                Inner::Postgres(db) => db.close().await,
            }
        };
        if timeout(CLOSE_LIMIT, close).await.is_err() {
            tracing::warn!("the connections to the database were not closed in time");
        }
    }
}
