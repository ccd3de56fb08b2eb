//! Rows that statements return.

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use sqlx::{
    Postgres, Row as _, ValueRef as _,
    postgres::{PgRow, PgValueRef},
};
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
        self.next_column().and_then(T::from_column)
    }

    /// Reads the next column, a text, without copying it.
    ///
    /// # Errors
    /// [`Error::Decode`] if there is no further column or its value is not a text.
    pub fn next_text(&mut self) -> Result<&'r str, Error> {
        self.next_column()?.text()
    }

    /// Like [`next_text`](Self::next_text), for a column that can be null.
    ///
    /// # Errors
    /// As [`next_text`](Self::next_text).
    pub fn next_optional_text(&mut self) -> Result<Option<&'r str>, Error> {
        let column = self.next_column()?;
        if column.is_null() { Ok(None) } else { column.text().map(Some) }
    }

    fn next_column(&mut self) -> Result<Column<'r>, Error> {
        let index = self.next;
        self.next += 1;
        let value = match self.source {
            Source::Sqlite(row) => Encoded::Sqlite(row.get_ref(index)?),
            Source::Postgres(row) => Encoded::Postgres(row.try_get_raw(index)?),
        };
        Ok(Column { index, value })
    }
}

/// The value of one column.
#[expect(missing_debug_implementations, reason = "the values of PostgreSQL have none, and it may be a secret")]
pub struct Column<'r> {
    index: usize,
    value: Encoded<'r>,
}

enum Encoded<'r> {
    Sqlite(ValueRef<'r>),
    Postgres(PgValueRef<'r>),
}

impl<'r> Column<'r> {
    fn is_null(&self) -> bool {
        match &self.value {
            Encoded::Sqlite(value) => *value == ValueRef::Null,
            Encoded::Postgres(value) => value.is_null(),
        }
    }

    fn text(self) -> Result<&'r str, Error> {
        self.decode(|value| value.as_str())
    }

    /// Decodes the value with the decoder of the engine.
    fn decode<T>(self, from_sqlite: fn(ValueRef<'r>) -> FromSqlResult<T>) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let decoded = match self.value {
            Encoded::Sqlite(value) => from_sqlite(value).map_err(|error| error.to_string()),
            Encoded::Postgres(value) if !T::compatible(&value.type_info()) => {
                Err(format!("its type is {}", value.type_info()))
            }
            Encoded::Postgres(value) => T::decode(value).map_err(|error| error.to_string()),
        };
        decoded.map_err(|error| Error::Decode(format!("column {}: {error}", self.index)))
    }
}

/// A type that is decoded from the next columns of a row, so that types can be nested.
pub trait FromRow: Sized {
    /// Reads the columns in the order in which the statement lists them.
    ///
    /// # Errors
    /// [`Error::Decode`] if a column is missing or is of another type.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error>;
}

/// A type that is decoded from one column.
pub trait FromColumn: Sized {
    /// Decodes the value.
    ///
    /// # Errors
    /// [`Error::Decode`] if it is of another type.
    fn from_column(column: Column<'_>) -> Result<Self, Error>;
}

/// Implements [`FromColumn`] with a decoder for SQLite. A macro because the implementations differ in names only.
macro_rules! impl_from_column {
    ($($type:ty, $from_sqlite:expr;)*) => {$(
        impl FromColumn for $type {
            fn from_column(column: Column<'_>) -> Result<Self, Error> {
                column.decode($from_sqlite)
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
    fn from_column(column: Column<'_>) -> Result<Self, Error> {
        i64::from_column(column).map(Self::from_micros)
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(column: Column<'_>) -> Result<Self, Error> {
        if column.is_null() { Ok(None) } else { T::from_column(column).map(Some) }
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
