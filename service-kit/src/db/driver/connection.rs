//! Carries statements out.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use futures::{
    FutureExt, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use quick_cache::unsync::Cache;
use sqlx::{Connection, Either, Execute, Executor, SqlStr, Statement};
use sqlx_core::{connection::LogSettings, describe::Describe, logger::QueryLogger, transaction::Transaction};

use super::{
    Argument, Rusqlite, RusqliteArguments, RusqliteColumn, RusqliteOptions, RusqliteRow, StorageClass, error::error,
    rows::Rows,
};

/// So many statements are kept prepared.
const KEPT: usize = 128;

/// A connection to a file.
#[derive(Debug)]
pub struct RusqliteConnection {
    connection: rusqlite::Connection,
    /// The columns of the statements that are kept: their names take longer to read than a row.
    columns: Cache<String, Arc<[RusqliteColumn]>>,
    /// How many transactions there are, one in the other.
    pub(super) depth: usize,
    log: LogSettings,
}

impl RusqliteConnection {
    pub(super) fn new(connection: rusqlite::Connection, log: LogSettings) -> Self {
        connection.set_prepared_statement_cache_capacity(KEPT);
        Self { connection, columns: Cache::new(KEPT), depth: 0, log }
    }

    /// Carries a statement out until it has given so many rows; without any, to the end.
    pub(super) fn run<'q>(
        &mut self,
        mut query: impl Execute<'q, Rusqlite>,
        most_rows: usize,
    ) -> sqlx::Result<(Rows, RusqliteQueryResult)> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let persistent = query.persistent();
        let sql = query.sql();
        let mut logger = QueryLogger::new(sql.clone(), self.log.clone());
        let mut run = || {
            let (mut kept, mut once);
            let statement: &mut rusqlite::Statement<'_> = if persistent {
                kept = self.connection.prepare_cached(sql.as_str())?;
                &mut kept
            } else {
                once = self.connection.prepare(sql.as_str())?;
                &mut once
            };
            let known = self.columns.get(sql.as_str()).map(Arc::clone);
            let columns = known.unwrap_or_else(|| {
                let columns = columns_of(statement);
                if persistent {
                    self.columns.insert(sql.as_str().to_owned(), Arc::clone(&columns));
                }
                columns
            });
            bind(statement, &arguments.0)?;
            let mut found = Rows::new(columns);
            let (mut count, mut rows) = (0, statement.raw_query());
            while let Some(row) = rows.next()? {
                found.push(row)?;
                logger.increment_rows_returned();
                count += 1;
                if count == most_rows {
                    break;
                }
            }
            drop(rows);
            // Of the statement that has written last, which need not be this one.
            let rows_affected = if statement.readonly() { 0 } else { self.connection.changes() };
            logger.increase_rows_affected(rows_affected);
            Ok((found, RusqliteQueryResult { rows_affected }))
        };
        run().map_err(error)
    }

    fn look_at(&self, sql: SqlStr) -> sqlx::Result<RusqliteStatement> {
        let statement = self.connection.prepare(sql.as_str()).map_err(error)?;
        let (columns, parameters) = (columns_of(&statement), statement.parameter_count());
        drop(statement);
        Ok(RusqliteStatement { sql, columns, parameters })
    }
}

fn columns_of(statement: &rusqlite::Statement<'_>) -> Arc<[RusqliteColumn]> {
    let names = statement.column_names().into_iter().enumerate();
    names.map(|(ordinal, name)| RusqliteColumn { ordinal, name: name.to_owned() }).collect()
}

/// Gives a statement its values: to `$3` the third, and to `?` one after the other.
fn bind(statement: &mut rusqlite::Statement<'_>, arguments: &[Argument]) -> rusqlite::Result<()> {
    for place in 1..=statement.parameter_count() {
        let number = match statement.parameter_name(place) {
            None => Some(place),
            Some(name) => name.strip_prefix(['$', '?']).and_then(|digits| digits.parse().ok()),
        };
        let argument = number.and_then(|number: usize| arguments.get(number.checked_sub(1)?));
        let argument = argument.ok_or(rusqlite::Error::InvalidParameterCount(place, arguments.len()))?;
        statement.raw_bind_parameter(place, argument)?;
    }
    Ok(())
}

impl Connection for RusqliteConnection {
    type Database = Rusqlite;
    type Options = RusqliteOptions;

    fn close(self) -> impl Future<Output = sqlx::Result<()>> + Send + 'static {
        ready(self.connection.close().map_err(|(_, fault)| error(fault)))
    }

    fn close_hard(self) -> impl Future<Output = sqlx::Result<()>> + Send + 'static {
        self.close()
    }

    /// A file does not go away.
    fn ping(&mut self) -> impl Future<Output = sqlx::Result<()>> + Send + '_ {
        ready(Ok(()))
    }

    fn begin(&mut self) -> impl Future<Output = sqlx::Result<Transaction<'_, Rusqlite>>> + Send + '_ {
        Transaction::begin(self, None)
    }

    /// There are none.
    fn shrink_buffers(&mut self) {}

    fn flush(&mut self) -> impl Future<Output = sqlx::Result<()>> + Send + '_ {
        ready(Ok(()))
    }

    fn should_flush(&self) -> bool {
        false
    }
}

impl<'c> Executor<'c> for &'c mut RusqliteConnection {
    type Database = Rusqlite;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<RusqliteQueryResult, RusqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Rusqlite>,
    {
        let found = async move {
            let (rows, result) = self.run(query, 0)?;
            let rows = rows.into_rows().map(|row| Ok(Either::Right(row)));
            Ok(stream::iter(rows.chain([Ok(Either::Left(result))])))
        };
        found.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<RusqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Rusqlite>,
    {
        async move { Ok(self.run(query, 1)?.0.into_rows().next()) }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        _parameters: &'e [StorageClass],
    ) -> BoxFuture<'e, sqlx::Result<RusqliteStatement>>
    where
        'c: 'e,
    {
        async move { self.look_at(sql) }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Rusqlite>>>
    where
        'c: 'e,
    {
        async move {
            let RusqliteStatement { columns, parameters, .. } = self.look_at(sql)?;
            let nullable = vec![None; columns.len()];
            Ok(Describe { columns: columns.to_vec(), parameters: Some(Either::Right(parameters)), nullable })
        }
        .boxed()
    }
}

/// What a statement has done.
#[derive(Clone, Debug, Default)]
pub struct RusqliteQueryResult {
    rows_affected: u64,
}

impl RusqliteQueryResult {
    /// How many rows it has inserted, updated or deleted.
    #[must_use]
    pub fn rows_affected(&self) -> u64 {
        self.rows_affected
    }
}

impl Extend<Self> for RusqliteQueryResult {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, others: T) {
        self.rows_affected += others.into_iter().map(|other| other.rows_affected).sum::<u64>();
    }
}

/// A statement that has been looked at.
#[derive(Clone, Debug)]
pub struct RusqliteStatement {
    sql: SqlStr,
    columns: Arc<[RusqliteColumn]>,
    parameters: usize,
}

impl Statement for RusqliteStatement {
    type Database = Rusqlite;

    fn into_sql(self) -> SqlStr {
        self.sql
    }

    fn sql(&self) -> &SqlStr {
        &self.sql
    }

    fn parameters(&self) -> Option<Either<&[StorageClass], usize>> {
        Some(Either::Right(self.parameters))
    }

    fn columns(&self) -> &[RusqliteColumn] {
        &self.columns
    }

    sqlx_core::impl_statement_query!(RusqliteArguments);
}
