//! The database of a service: one handle for SQLite and PostgreSQL, which execute the same SQL.
//!
//! ```no_run
//! # use service_kit::{args, db::{Db, Error, ReadKind}};
//! # async fn example(db: &Db, owner: uuid::Uuid, id: uuid::Uuid) -> Result<(), Error> {
//! // One statement:
//! let title: Option<String> =
//!     db.fetch_optional("select title from tasks where owner_id = $1 and id = $2", args![owner, id]).await?;
//!
//! // Several statements in one transaction:
//! db.write(move |conn| {
//!     Box::pin(async move {
//!         conn.execute("delete from tasks where owner_id = $1 and id = $2", args![owner, id]).await?;
//!         conn.execute("update owners set tasks = tasks - 1 where owner_id = $1", args![owner]).await?;
//!         Ok::<_, Error>(())
//!     })
//! })
//! .await
//! # }
//! ```
//!
//! A call is abandoned at its deadline or because the client has disconnected. This never loses a connection. A call
//! that has not started is not executed. A read that has started is cancelled, on PostgreSQL after a short delay. A
//! write that has started runs to its end.
//!
//! # Layout
//! - this file: the handle. `lifecycle`: opens, migrates and closes it. `diagnosis`: checks it. `conn`: the connection that
//!   closures receive. `error`: database errors.
//! - `query`, `row`: statements with their arguments, and the rows that they return.
//! - `sqlite`, `postgres`: how calls are executed. `call`: the kind and the state of a call.
//! - `search`: reads with a filter, and their limits. `groups`: concurrent calls that are executed together.
//! - `sqlite::files`: copies and locks SQLite files, for backups. `copy`: copies SQLite files to PostgreSQL.
//! - `args`: settings. `url`: database URLs. `migrate`: the check of existing tables. `migrate_command`: the command
//!   `migrate`.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

mod args;
mod call;
mod conn;
mod copy;
mod diagnosis;
mod error;
mod groups;
mod lifecycle;
mod migrate;
mod migrate_command;
mod postgres;
mod query;
mod row;
mod search;
mod sqlite;
mod url;

pub use args::{MigrateArgs, PoolArgs, schema_name};
pub use call::ReadKind;
pub use conn::{Conn, Engine};
pub use copy::{CopiedTable, ServiceCopy, copy_to_postgres};
pub use error::Error;
pub use groups::{ExecuteGroup, GroupKind, GroupOutcomes, Groups};
pub use migrate::{Migrate, PendingMigration, TableStatus};
pub use migrate_command::{MigrateCommand, ServiceDatabase};
use postgres::Postgres;
pub use query::{QueryBuilder, Sql, Value};
pub use row::{Column, FromColumn, FromRow, Row};
pub use search::{SearchError, Searches};
pub use sqlite::files::{ExclusiveFile, FileCopy, copy_at_one_instant};
use sqlite::{Sqlite, WriteKind};
pub use url::{DatabaseUrl, PostgresUrl};

/// How often the health of a PostgreSQL server is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A database with the tables of one service.
#[derive(Clone, Debug)]
pub struct Db(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Sqlite(Sqlite),
    // Boxed, because it is several times larger.
    Postgres(Box<Postgres>),
}

impl Db {
    /// Returns the engine, for the few statements that differ.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.0 {
            Inner::Sqlite(_) => Engine::Sqlite,
            Inner::Postgres(_) => Engine::Postgres,
        }
    }

    /// Returns how many long searches may be executed at the same time.
    fn max_long_searches(&self) -> usize {
        match &self.0 {
            Inner::Sqlite(db) => db.max_long_searches(),
            Inner::Postgres(db) => db.max_long_searches(),
        }
    }

    /// Returns how long a call may take.
    fn time_limit(&self) -> Duration {
        match &self.0 {
            Inner::Sqlite(db) => db.time_limit(),
            Inner::Postgres(db) => db.time_limit(),
        }
    }

    /// Returns a handle for the revocation feed, which has a connection of its own, so that its calls do not wait behind
    /// others. On SQLite there is only one writer, and only the reads have their own connection.
    #[must_use]
    pub fn for_feed(&self) -> Self {
        Self(match &self.0 {
            Inner::Sqlite(db) => Inner::Sqlite(db.for_feed()),
            Inner::Postgres(db) => Inner::Postgres(Box::new(db.for_feed())),
        })
    }

    /// Executes read-only statements, which may see different states of the database.
    ///
    /// # Errors
    /// If `work` or the database returns an error.
    pub async fn read<T, F>(&self, kind: ReadKind, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        match &self.0 {
            Inner::Sqlite(db) => db.read(kind, work).await,
            Inner::Postgres(db) => db.read(work).await,
        }
    }

    /// Executes read-only statements that are expected to visit few rows, about as many as a page has. On SQLite, they are
    /// executed like a [point read](ReadKind::Point), and a second time as a [scan](ReadKind::Scan) if they take longer
    /// than expected.
    ///
    /// # Errors
    /// If `work` or the database returns an error.
    pub async fn read_short<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Clone + Send + 'static,
    {
        match &self.0 {
            Inner::Sqlite(db) => db.read_short(work).await,
            Inner::Postgres(db) => db.read(work).await,
        }
    }

    /// Executes statements in one transaction, which takes no effect if `work` returns an error. On SQLite, concurrent
    /// writes share a commit.
    ///
    /// # Errors
    /// If `work` or the database returns an error.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        match &self.0 {
            Inner::Sqlite(db) => db.write(WriteKind::Transaction, work).await,
            Inner::Postgres(db) => db.write(work).await,
        }
    }

    /// Like [`write`](Self::write), but faster on SQLite. For closures that check everything before they write, so that
    /// only the first statement that writes may fail. If a later one fails nevertheless, the writes of others that share
    /// the commit are rolled back as well, with [`Error::NotCommitted`].
    ///
    /// # Errors
    /// If the database returns an error, and those of the closure.
    pub async fn write_after_checks<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        match &self.0 {
            Inner::Sqlite(db) => db.write(WriteKind::AfterChecks, work).await,
            Inner::Postgres(db) => db.write(work).await,
        }
    }

    /// Returns the row that a statement finds by its key, if there is one. Executed as a [point read](ReadKind::Point).
    ///
    /// # Errors
    /// If the database returns an error, or a row cannot be decoded.
    pub async fn fetch_optional<R: FromRow + Send + 'static>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<R>, Error> {
        let sql = sql.into();
        self.read(ReadKind::Point, |conn| Box::pin(async move { conn.fetch_optional(sql, args).await })).await
    }

    /// Returns all rows that a statement finds. Executed as a [scan](ReadKind::Scan).
    ///
    /// # Errors
    /// If the database returns an error, or a row cannot be decoded.
    pub async fn fetch_all<R: FromRow + Send + 'static>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let sql = sql.into();
        self.read(ReadKind::Scan, |conn| Box::pin(async move { conn.fetch_all(sql, args).await })).await
    }

    /// Executes one statement that writes, and returns how many rows it has inserted, updated or deleted.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn execute(&self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        let sql = sql.into();
        self.write_statement(|conn| Box::pin(async move { conn.execute(sql, args).await })).await
    }

    /// Executes one statement that writes, and returns the row that it returns, if any.
    ///
    /// # Errors
    /// If the database returns an error, or a row cannot be decoded.
    pub async fn execute_returning<R: FromRow + Send + 'static>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<R>, Error> {
        let sql = sql.into();
        self.write_statement(|conn| Box::pin(async move { conn.fetch_optional(sql, args).await })).await
    }

    async fn write_statement<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        match &self.0 {
            Inner::Sqlite(db) => db.write(WriteKind::Statement, work).await,
            Inner::Postgres(db) => db.write_statement(work).await,
        }
    }

    /// Calls `wake` for [notifications](Conn::notify) of `channel`, until the future is dropped. They are hints: those
    /// sent while the connection is broken are lost. SQLite has none.
    pub async fn listen(&self, channel: &'static str, mut wake: impl FnMut()) {
        self.listen_with(channel, |_| wake()).await;
    }

    /// Calls `receive` with the payload of each notification of `channel`, and with `None` whenever notifications may
    /// have been lost, until the future is dropped. SQLite has none.
    pub async fn listen_with(&self, channel: &'static str, receive: impl FnMut(Option<&str>)) {
        match &self.0 {
            Inner::Sqlite(_) => std::future::pending().await,
            Inner::Postgres(db) => db.listen(channel, receive).await,
        }
    }

    /// Keeps `is_healthy` up to date until the future is dropped: whether the database accepts new calls.
    pub async fn watch_health(&self, is_healthy: watch::Sender<bool>) {
        let Inner::Postgres(db) = &self.0 else {
            // Only the disk can fail, and reads would not show that.
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let checked = db.check().await;
            let changed =
                is_healthy.send_if_modified(|value| std::mem::replace(value, checked.is_ok()) != checked.is_ok());
            match checked {
                Err(error) if changed => tracing::error!(%error, "the database is not available"),
                Ok(()) if changed => tracing::info!("the database is available again"),
                _ => {}
            }
        }
    }

    /// Sets the metrics of the database of a service. Call it regularly.
    pub fn record_metrics(&self, service: &'static str) {
        match &self.0 {
            Inner::Sqlite(db) => db.record_metrics(service),
            Inner::Postgres(db) => db.record_metrics(service),
        }
    }
}
