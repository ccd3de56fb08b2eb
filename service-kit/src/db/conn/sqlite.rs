//! A connection to a SQLite file, through rusqlite. The driver of sqlx sends each statement to a thread, and returns
//! each value of each row in a separate allocation, which took three to five times as long: 12 to 14 instead of 2.4 µs
//! to read a row by its key.

use std::{
    fmt::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{
    CachedStatement, Connection, OpenFlags, Statement, ToSql,
    config::DbConfig,
    types::{ToSqlOutput, ValueRef},
};

use crate::db::{
    Error, Sql, Value,
    call::Call,
    row::{FromRow, Row},
};

/// Number of prepared statements that a connection keeps.
const STATEMENT_CACHE: usize = 128;

/// Number of instructions of SQLite's virtual machine after which a read checks whether it is cancelled: about 20 µs.
const PROGRESS_STEPS: i32 = 1000;

/// Options for opening a file, which must exist.
#[derive(Clone, Debug)]
pub(in crate::db) struct OpenOptions {
    path: PathBuf,
    busy_timeout: Duration,
    pragmas: Vec<(&'static str, &'static str)>,
}

impl OpenOptions {
    /// Sets the defaults of SQLite. `busy_timeout` is how long to wait for a lock of another connection.
    pub(in crate::db) fn new(path: &Path, busy_timeout: Duration) -> Self {
        Self { path: path.to_owned(), busy_timeout, pragmas: Vec::new() }
    }

    /// Sets a pragma after opening.
    pub(in crate::db) fn pragma(mut self, name: &'static str, value: &'static str) -> Self {
        self.pragmas.push((name, value));
        self
    }

    /// Returns the path of the write-ahead log.
    pub(in crate::db) fn log_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        path.into()
    }

    /// Opens the file, on this thread.
    ///
    /// # Errors
    /// If it cannot be opened or is no database.
    pub(in crate::db) fn open(&self) -> Result<SqliteConn, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // Without this, SQLite prepares a statement again when its arguments change and its plan may depend on them, as
        // on a table with a partial index.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        let mut pragmas = String::new();
        for (name, value) in &self.pragmas {
            // Writing to a string cannot fail.
            _ = write!(pragmas, "pragma {name} = {value};");
        }
        connection.execute_batch(&pragmas)?;
        Ok(SqliteConn { connection, busy_timeout: self.busy_timeout, current: Arc::default(), failure: None })
    }
}

/// An open file.
#[derive(Debug)]
pub(in crate::db) struct SqliteConn {
    connection: Connection,
    busy_timeout: Duration,
    /// The read that is being executed, if this connection is interruptible.
    current: Arc<Mutex<Option<Arc<Call>>>>,
    /// How the first statement failed since [`take_failure`](Self::take_failure).
    failure: Option<Failure>,
}

/// How a statement has failed.
#[derive(Clone, Debug)]
pub(in crate::db) enum Failure {
    /// Only the statement has failed, for example at a constraint. The transaction remains usable.
    Recoverable,
    /// The transaction, or the whole connection, is not usable any more.
    Fatal { reason: String, breaks_connection: bool },
}

impl SqliteConn {
    /// Stops reads at their deadline, and when they are abandoned.
    pub(in crate::db) fn make_interruptible(&self) -> Result<(), Error> {
        let current = Arc::clone(&self.current);
        let is_cancelled = move || lock(&current).as_ref().is_some_and(|call| call.is_cancelled());
        Ok(self.connection.progress_handler(PROGRESS_STEPS, Some(is_cancelled))?)
    }

    /// Sets the call that the following statements belong to.
    pub(in crate::db) fn set_current(&self, call: Option<Arc<Call>>) {
        *lock(&self.current) = call;
    }

    /// Returns how the first statement failed since the last call of this method, if one did.
    pub(in crate::db) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Reports whether a statement has failed since [`take_failure`](Self::take_failure).
    pub(in crate::db) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Executes a statement without arguments, such as `begin`.
    pub(in crate::db) fn control(&mut self, sql: &'static str) -> Result<(), Error> {
        Ok(self.connection.prepare_cached(sql)?.execute([]).map(drop)?)
    }

    /// Returns how many rows have been changed since the connection was opened. Rows that were rolled back count as well,
    /// except those of statements that failed.
    pub(in crate::db) fn total_changes(&self) -> u64 {
        self.connection.total_changes()
    }

    /// Copies the write-ahead log into the file, and truncates the log. Waits for the reads that use the log, and leaves it
    /// as it is if they take long, for example those of a backup: writes wait meanwhile.
    pub(in crate::db) fn truncate_log(&mut self) -> Result<(), Error> {
        self.connection.busy_timeout(self.busy_timeout / 4)?;
        let truncated = self.connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
        self.connection.busy_timeout(self.busy_timeout)?;
        Ok(truncated?)
    }

    pub(in crate::db) fn execute(&mut self, sql: &Sql, args: &[Value]) -> Result<u64, Error> {
        let outcome = run(&self.connection, sql, args, |statement| {
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            drop(rows);
            // `changes` counts the rows of the last statement that wrote, which may be an earlier one.
            Ok(if statement.readonly() { 0 } else { self.connection.changes() })
        });
        self.record(outcome)
    }

    /// Calls `visit` with each row, until it returns `Break` or an error.
    pub(in crate::db) fn for_each_row(
        &mut self,
        sql: &Sql,
        args: &[Value],
        mut visit: impl FnMut(&mut Row<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let outcome = run(&self.connection, sql, args, |statement| {
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                if visit(&mut Row::from_sqlite(row))?.is_break() {
                    break;
                }
            }
            Ok(())
        });
        self.record(outcome)
    }

    /// Returns the first row, if there is one.
    pub(in crate::db) fn fetch_optional<R: FromRow>(&mut self, sql: &Sql, args: &[Value]) -> Result<Option<R>, Error> {
        let mut found = None;
        self.for_each_row(sql, args, |row| {
            found = Some(R::from_row(row)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    fn record<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), None) = (&outcome, &self.failure) {
            self.failure = Some(if error.affects_only_statement() {
                Failure::Recoverable
            } else {
                Failure::Fatal { reason: error.to_string(), breaks_connection: error.breaks_connection() }
            });
        }
        outcome
    }
}

// The lock is held briefly, and never across an await.
fn lock(current: &Mutex<Option<Arc<Call>>>) -> std::sync::MutexGuard<'_, Option<Arc<Call>>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run<T>(
    connection: &Connection,
    sql: &Sql,
    args: &[Value],
    work: impl FnOnce(&mut Statement<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    // SQLite finds `?2` by its number, but `$2` by its name, among those of all other arguments.
    let text = sql.text.replace('$', "?");
    let (mut cached, mut uncached): (CachedStatement<'_>, Statement<'_>);
    let statement = if sql.is_cached {
        cached = connection.prepare_cached(&text)?;
        &mut *cached
    } else {
        uncached = connection.prepare(&text)?;
        &mut uncached
    };
    bind(statement, args)?;
    work(statement)
}

fn bind(statement: &mut Statement<'_>, args: &[Value]) -> Result<(), Error> {
    for index in 1..=statement.parameter_count() {
        let value = args.get(index - 1).ok_or(rusqlite::Error::InvalidParameterCount(index, args.len()))?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Bool(value) => value.map(|value| ValueRef::Integer(value.into())),
            Self::Int(value) => value.map(ValueRef::Integer),
            Self::Text(value) => value.as_ref().map(|text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(value) => value.as_ref().map(|bytes| ValueRef::Blob(bytes)),
            Self::Uuid(value) => value.as_ref().map(|id| ValueRef::Blob(id.as_bytes())),
            Self::IntArray(_) | Self::TextArray(_) | Self::UuidArray(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure("SQLite has no arrays".into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null)))
    }
}
