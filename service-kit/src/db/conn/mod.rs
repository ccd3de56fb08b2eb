//! A connection of either engine, on which statements are executed one after the other.

use super::{Error, Sql, Value, row::FromRow};

pub(super) mod postgres;
pub(super) mod sqlite;

use postgres::PgConn;
use sqlite::SqliteConn;

/// The engine of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// A connection. The closures of [`Db::read`](super::Db::read) and [`Db::write`](super::Db::write) receive it. Within
/// them, await nothing but its methods: on SQLite they run on a thread that serves others, too.
#[derive(Debug)]
pub struct Conn {
    pub(super) kind: Kind,
    /// How many statements have been executed.
    statements: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    Postgres(PgConn),
    // Boxed, as it is several times as large.
    Sqlite(Box<SqliteConn>),
}

impl Conn {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, statements: 0 }
    }

    /// Returns the engine, for the few statements that differ.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.kind {
            Kind::Sqlite(_) => Engine::Sqlite,
            Kind::Postgres(_) => Engine::Postgres,
        }
    }

    /// Returns how many statements have been executed on this connection since it was made.
    #[must_use]
    pub fn statement_count(&self) -> u64 {
        self.statements
    }

    /// Fails if a statement of this transaction has failed, although the closure returned no error: PostgreSQL would roll
    /// back, and SQLite would commit the rest.
    pub(super) fn check_statements(&self) -> Result<(), Error> {
        let has_failed = match &self.kind {
            Kind::Sqlite(conn) => conn.has_failed(),
            Kind::Postgres(conn) => conn.has_failed,
        };
        if has_failed { Err(Error::Bug("a transaction went on after a statement that failed")) } else { Ok(()) }
    }

    /// Executes a statement and returns how many rows it has inserted, updated or deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn execute(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        self.statements += 1;
        match &mut self.kind {
            Kind::Sqlite(conn) => conn.execute(&sql.into(), &args),
            Kind::Postgres(conn) => conn.execute(sql.into(), args).await,
        }
    }

    /// Returns all rows.
    ///
    /// # Errors
    /// Those of the database, and [`Error::Decode`].
    pub async fn fetch_all<R: FromRow>(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<Vec<R>, Error> {
        self.statements += 1;
        match &mut self.kind {
            Kind::Sqlite(conn) => conn.fetch(&sql.into(), &args, usize::MAX),
            Kind::Postgres(conn) => conn.fetch_all(sql.into(), args).await,
        }
    }

    /// Returns the first row, if there is one.
    ///
    /// # Errors
    /// Those of the database, and [`Error::Decode`].
    pub async fn fetch_optional<R: FromRow>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<R>, Error> {
        self.statements += 1;
        match &mut self.kind {
            Kind::Sqlite(conn) => Ok(conn.fetch(&sql.into(), &args, 1)?.pop()),
            Kind::Postgres(conn) => conn.fetch_optional(sql.into(), args).await,
        }
    }

    /// Returns the first row.
    ///
    /// # Errors
    /// [`Error::RowNotFound`] if there is none, those of the database, and [`Error::Decode`].
    pub async fn fetch_one<R: FromRow>(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<R, Error> {
        self.fetch_optional(sql, args).await?.ok_or(Error::RowNotFound)
    }

    /// Notifies those who [listen](super::Db::listen) on a channel, when the transaction commits. On SQLite it does
    /// nothing, since no other process uses the file.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn notify(&mut self, channel: &'static str) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => self.execute("select pg_notify($1, '')", crate::args![channel]).await.map(drop),
        }
    }

    /// Waits until no other transaction holds the lock `key`, and holds it until the end of this one. SQLite has one
    /// writer anyway.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn advisory_lock(&mut self, key: i64) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => self.execute("select pg_advisory_xact_lock($1)", crate::args![key]).await.map(drop),
        }
    }
}
