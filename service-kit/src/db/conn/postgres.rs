//! A connection to a PostgreSQL server.

use std::ops::ControlFlow;

use sqlx::{
    Arguments, AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgQueryResult},
};

use crate::db::{
    Error, Sql, Value,
    row::{FromRow, Row},
};

/// An open connection.
#[derive(Debug)]
pub(in crate::db) struct PgConn {
    connection: PgConnection,
    /// Whether a statement has failed, so that the transaction can only be rolled back.
    pub(in crate::db) has_failed: bool,
    /// Whether the connection must not be used again.
    pub(in crate::db) is_broken: bool,
}

impl PgConn {
    pub(in crate::db) fn new(connection: PgConnection) -> Self {
        Self { connection, has_failed: false, is_broken: false }
    }

    /// Executes statements without arguments, such as `begin`, in one round trip.
    pub(in crate::db) async fn control(&mut self, sql: &'static str) -> Result<(), Error> {
        let outcome = self.connection.execute(sqlx::raw_sql(sql)).await;
        self.record(outcome.map(drop).map_err(Error::from))
    }

    pub(in crate::db) async fn ping(&mut self) -> Result<(), Error> {
        Ok(self.connection.ping().await?)
    }

    pub(in crate::db) async fn execute(&mut self, sql: Sql, args: Vec<Value>) -> Result<u64, Error> {
        let outcome = async {
            let is_cached = sql.is_cached;
            let query = sqlx::query_with(text(sql), arguments(args)?).persistent(is_cached);
            Ok(query.execute(&mut self.connection).await.map(|result: PgQueryResult| result.rows_affected())?)
        };
        let outcome = outcome.await;
        self.record(outcome)
    }

    /// Calls `visit` with each row, until it returns `Break` or an error.
    pub(in crate::db) async fn for_each_row(
        &mut self,
        sql: Sql,
        args: Vec<Value>,
        mut visit: impl FnMut(&mut Row<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let outcome = async {
            let is_cached = sql.is_cached;
            let query = sqlx::query_with(text(sql), arguments(args)?).persistent(is_cached);
            Ok(query.fetch_all(&mut self.connection).await?)
        };
        let rows = outcome.await;
        for row in &self.record(rows)? {
            if visit(&mut Row::from_postgres(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(in crate::db) async fn fetch_optional<R: FromRow>(
        &mut self,
        sql: Sql,
        args: Vec<Value>,
    ) -> Result<Option<R>, Error> {
        let outcome = async {
            let is_cached = sql.is_cached;
            let query = sqlx::query_with(text(sql), arguments(args)?).persistent(is_cached);
            Ok(query.fetch_optional(&mut self.connection).await?)
        };
        let row = outcome.await;
        let row = self.record(row)?;
        row.map(|row| R::from_row(&mut Row::from_postgres(&row))).transpose()
    }

    fn record<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            self.has_failed = true;
            self.is_broken |= error.breaks_connection();
        }
        outcome
    }
}

fn text(sql: Sql) -> SqlStr {
    match sql.text {
        std::borrow::Cow::Borrowed(text) => SqlStr::from_static(text),
        // It is built from constants; data of requests is bound.
        std::borrow::Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Bool(value) => arguments.add(value),
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
            Value::Uuid(value) => arguments.add(value),
            Value::IntArray(values) => arguments.add(values),
            Value::TextArray(values) => arguments.add(values),
            Value::UuidArray(values) => arguments.add(values),
        };
        added.map_err(|error| Error::Postgres(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}
