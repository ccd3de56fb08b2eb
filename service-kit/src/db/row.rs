//! Rows that statements return.

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use sqlx::{Postgres, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::Error;
use crate::clock::Timestamp;

/// A row, whose columns are read from left to right.
#[derive(Debug)]
pub struct Row<'r> {
    source: Source<'r>,
    next: usize,
}

#[derive(Debug)]
enum Source<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r PgRow),
}

impl<'r> Row<'r> {
    pub(super) fn from_sqlite(row: &'r rusqlite::Row<'r>) -> Self {
        Self { source: Source::Sqlite(row), next: 0 }
    }

    pub(super) fn from_postgres(row: &'r PgRow) -> Self {
        Self { source: Source::Postgres(row), next: 0 }
    }

    /// Reads the next column.
    ///
    /// # Errors
    /// [`Error::Decode`] if there is no further column or its value is of another type.
    #[expect(clippy::should_implement_trait, reason = "columns differ in type, so a row cannot be an iterator")]
    pub fn next<T: FromColumn>(&mut self) -> Result<T, Error> {
        let index = self.next;
        self.next += 1;
        T::from_column(self, index)
    }
}

/// A type that is made from a row: of its first columns, or of the next ones where rows are nested.
pub trait FromRow: Sized {
    /// Reads the columns in the order in which the statement lists them.
    ///
    /// # Errors
    /// [`Error::Decode`] if the columns do not fit.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error>;
}

/// A type that is made from one column.
pub trait FromColumn: Sized {
    /// Reads the column at an index.
    ///
    /// # Errors
    /// [`Error::Decode`] if there is no such column or its value is of another type.
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self, Error>;
}

/// Reads a column with the decoder of the engine.
fn decode<'r, T>(row: &Row<'r>, index: usize, from_sqlite: fn(ValueRef<'_>) -> FromSqlResult<T>) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    match row.source {
        Source::Postgres(row) => Ok(row.try_get(index)?),
        Source::Sqlite(row) => {
            let value = from_sqlite(row.get_ref(index)?);
            value.map_err(|error| Error::Decode(format!("column {index}: {error}")))
        }
    }
}

/// Implements [`FromColumn`] with a decoder for SQLite. A macro because the implementations differ in names only.
macro_rules! impl_from_column {
    ($($type:ty, $from_sqlite:expr;)*) => {$(
        impl FromColumn for $type {
            fn from_column(row: &Row<'_>, index: usize) -> Result<Self, Error> {
                decode(row, index, $from_sqlite)
            }
        }
    )*};
}

impl_from_column! {
    bool, |value| value.as_i64().map(|number| number != 0);
    i64, |value| value.as_i64();
    String, |value| value.as_str().map(str::to_owned);
    Vec<u8>, |value| value.as_blob().map(<[u8]>::to_vec);
    Uuid, |value| value.as_blob().and_then(|bytes| Uuid::from_slice(bytes).map_err(FromSqlError::other));
}

impl FromColumn for Timestamp {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self, Error> {
        i64::from_column(row, index).map(Self::from_micros)
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self, Error> {
        let is_null = match row.source {
            Source::Sqlite(row) => row.get_ref(index)? == ValueRef::Null,
            Source::Postgres(row) => sqlx::ValueRef::is_null(&row.try_get_raw(index)?),
        };
        if is_null { Ok(None) } else { T::from_column(row, index).map(Some) }
    }
}

impl<T: FromColumn> FromRow for T {
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        row.next()
    }
}

/// Reads tuples column by column. A macro because there is one implementation for each number of columns.
macro_rules! impl_from_row_for_tuples {
    ($(($($column:ident),+);)*) => {$(
        impl<$($column: FromColumn),+> FromRow for ($($column,)+) {
            fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
                Ok(($(row.next::<$column>()?,)+))
            }
        }
    )*};
}

impl_from_row_for_tuples! {
    (A, B);
    (A, B, C);
    (A, B, C, D);
}
