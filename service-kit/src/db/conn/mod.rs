//! A connection of either engine, on which statements are executed one after the other.

use std::ops::ControlFlow;

use super::{Error, FromRow, Row, Sql, Value};
use crate::trace;

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

impl Engine {
    /// Returns the name in traces, according to the conventions of OpenTelemetry.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}

/// A connection, which the closures of [`Db::read`](super::Db::read) and [`Db::write`](super::Db::write) receive. They
/// must await only its methods, because on SQLite they share a thread with other calls.
#[derive(Debug)]
pub struct Conn {
    pub(super) kind: Kind,
    /// How many statements have been executed.
    statements: u64,
    /// How many rows and how many bytes have been written.
    written_rows: u64,
    written_bytes: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    Postgres(PgConn),
    // Boxed, because it is several times larger.
    Sqlite(Box<SqliteConn>),
}

impl Conn {
    /// Written rows count once for each of these many bytes.
    pub const BYTES_PER_ROW: u64 = 4096;

    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, statements: 0, written_rows: 0, written_bytes: 0 }
    }

    /// Returns the engine, for the few statements that differ.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.kind {
            Kind::Sqlite(_) => Engine::Sqlite,
            Kind::Postgres(_) => Engine::Postgres,
        }
    }

    /// Returns how many statements have been executed on this connection since it was opened.
    #[must_use]
    pub fn statement_count(&self) -> u64 {
        self.statements
    }

    /// Returns how many rows have been written by [`execute`](Self::execute) on this connection since it was opened. Each
    /// 4 KiB of the arguments count as one more row. Rows that were rolled back count as well.
    #[must_use]
    pub fn written_rows(&self) -> u64 {
        self.written_rows + self.written_bytes / Self::BYTES_PER_ROW
    }

    /// Fails if a statement of this transaction has failed although the closure returned no error: PostgreSQL would
    /// roll back, and SQLite would commit the rest.
    pub(super) fn check_statements(&self) -> Result<(), Error> {
        let has_failed = match &self.kind {
            Kind::Sqlite(conn) => conn.has_failed(),
            Kind::Postgres(conn) => conn.has_failed,
        };
        if has_failed { Err(Error::Bug("a transaction continued after a failed statement")) } else { Ok(()) }
    }

    /// Executes a statement and returns how many rows it has inserted, updated or deleted.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn execute(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        let rows = self.execute_for_counted_rows(sql, args).await?;
        self.written_rows += rows;
        Ok(rows)
    }

    /// Like [`execute`](Self::execute), but only the arguments count as written, because the rows belong to rows of
    /// another table, which have been counted.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn execute_for_counted_rows(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        self.statements += 1;
        let bytes: usize = args.iter().map(Value::size).sum();
        let sql = sql.into();
        let span = trace::statement(self.engine().name(), &sql.text);
        let rows = span.observe(match &mut self.kind {
            Kind::Sqlite(conn) => conn.execute(&sql, &args),
            Kind::Postgres(conn) => conn.execute(sql, args).await,
        })?;
        self.written_bytes += bytes as u64;
        Ok(rows)
    }

    /// Returns all rows.
    ///
    /// # Errors
    /// If the database returns an error, or a row cannot be decoded.
    pub async fn fetch_all<R: FromRow + Send>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Vec<R>, Error> {
        let push = |rows: &mut Vec<R>, row: &mut Row<'_>| {
            rows.push(R::from_row(row)?);
            Ok(ControlFlow::Continue(()))
        };
        self.fold(sql, args, Vec::new(), push).await
    }

    /// Calls `add` with `value` and each row, until it returns `Break`. Returns the value.
    ///
    /// # Errors
    /// If the database or `add` returns an error.
    pub async fn fold<T>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
        mut value: T,
        mut add: impl FnMut(&mut T, &mut Row<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<T, Error> {
        self.statements += 1;
        let sql = sql.into();
        let span = trace::statement(self.engine().name(), &sql.text);
        let visit = |row: &mut Row<'_>| add(&mut value, row);
        span.observe(match &mut self.kind {
            Kind::Sqlite(conn) => conn.for_each_row(&sql, &args, visit),
            Kind::Postgres(conn) => conn.for_each_row(sql, args, visit).await,
        })?;
        Ok(value)
    }

    /// Returns the first row, if there is one.
    ///
    /// # Errors
    /// If the database returns an error, or a row cannot be decoded.
    pub async fn fetch_optional<R: FromRow>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<R>, Error> {
        self.statements += 1;
        let sql = sql.into();
        let span = trace::statement(self.engine().name(), &sql.text);
        span.observe(match &mut self.kind {
            Kind::Sqlite(conn) => conn.fetch_optional(&sql, &args),
            Kind::Postgres(conn) => conn.fetch_optional(sql, args).await,
        })
    }

    /// Returns the first row.
    ///
    /// # Errors
    /// If there is none ([`Error::RowNotFound`]), the database returns an error, or the row cannot be decoded.
    pub async fn fetch_one<R: FromRow>(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<R, Error> {
        self.fetch_optional(sql, args).await?.ok_or(Error::RowNotFound)
    }

    /// Notifies [listeners](super::Db::listen) of a channel when the transaction commits. Does nothing on SQLite,
    /// because no other process uses the file.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn notify(&mut self, channel: &'static str) -> Result<(), Error> {
        self.notify_with(channel, "").await
    }

    /// Like [`notify`](Self::notify), with a payload, which must be shorter than 8000 bytes.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn notify_with(&mut self, channel: &'static str, payload: &str) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => {
                self.execute("select pg_notify($1, $2)", crate::args![channel, payload]).await.map(drop)
            }
        }
    }

    /// Acquires the advisory lock `key` until the end of the transaction. Does nothing on SQLite, which has a single
    /// writer.
    ///
    /// # Errors
    /// If the database returns an error.
    pub async fn advisory_lock(&mut self, key: i64) -> Result<(), Error> {
        match self.engine() {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => self.execute("select pg_advisory_xact_lock($1)", crate::args![key]).await.map(drop),
        }
    }
}
