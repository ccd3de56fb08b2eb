//! What a statement gives: rows, which share what they are made of.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rusqlite::types::ValueRef as Seen;
use sqlx::{Column, ColumnIndex, Decode, Row, Value, ValueRef, error::BoxDynError};
use uuid::Uuid;

use super::{Rusqlite, StorageClass};

/// A column of what a statement gives.
#[derive(Clone, Debug)]
pub struct RusqliteColumn {
    pub(super) ordinal: usize,
    pub(super) name: String,
}

impl Column for RusqliteColumn {
    type Database = Rusqlite;

    fn ordinal(&self) -> usize {
        self.ordinal
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// A column has no type; its values have.
    fn type_info(&self) -> &StorageClass {
        &StorageClass::Null
    }
}

/// All rows that a statement gives: value after value, with texts and bytes in one place, so that a row costs no allocation.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Arc<[RusqliteColumn]>,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Cell {
    Null,
    Integer(i64),
    Text(Range<usize>),
    Blob(Range<usize>),
}

impl Rows {
    pub(super) fn new(columns: Arc<[RusqliteColumn]>) -> Self {
        Self { columns, cells: Vec::new(), bytes: Vec::new() }
    }

    /// Adds the row that a statement has come to.
    pub(super) fn push(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        for index in 0..self.columns.len() {
            let cell = match row.get_ref(index)? {
                Seen::Null => Cell::Null,
                Seen::Integer(number) => Cell::Integer(number),
                Seen::Text(text) => Cell::Text(self.keep(text)),
                Seen::Blob(bytes) => Cell::Blob(self.keep(bytes)),
                seen @ Seen::Real(_) => {
                    let name = self.columns[index].name.clone();
                    return Err(rusqlite::Error::InvalidColumnType(index, name, seen.data_type()));
                }
            };
            self.cells.push(cell);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    pub(super) fn into_rows(self) -> impl ExactSizeIterator<Item = RusqliteRow> + Send {
        // What gives rows has columns.
        let count = self.cells.len() / self.columns.len().max(1);
        let rows = Arc::new(self);
        (0..count).map(move |number| RusqliteRow { rows: Arc::clone(&rows), number, next: AtomicUsize::new(0) })
    }
}

/// A row.
#[derive(Debug)]
pub struct RusqliteRow {
    rows: Arc<Rows>,
    number: usize,
    /// The column after the one that was asked for last, which is most likely the next to be asked for.
    next: AtomicUsize,
}

impl Row for RusqliteRow {
    type Database = Rusqlite;

    fn columns(&self) -> &[RusqliteColumn] {
        &self.rows.columns
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, index: I) -> sqlx::Result<RusqliteValueRef<'_>> {
        let Rows { columns, cells, bytes } = &*self.rows;
        Ok(RusqliteValueRef(match &cells[self.number * columns.len() + index.index(self)?] {
            Cell::Null => Seen::Null,
            Cell::Integer(number) => Seen::Integer(*number),
            Cell::Text(place) => Seen::Text(&bytes[place.clone()]),
            Cell::Blob(place) => Seen::Blob(&bytes[place.clone()]),
        }))
    }
}

sqlx_core::impl_column_index_for_row!(RusqliteRow);

impl ColumnIndex<RusqliteRow> for &str {
    fn index(&self, row: &RusqliteRow) -> sqlx::Result<usize> {
        let (columns, next) = (row.columns(), row.next.load(Ordering::Relaxed));
        let is_named = |index: &usize| columns.get(*index).is_some_and(|column| column.name == *self);
        let named = Some(next).filter(is_named).or_else(|| (0..columns.len()).find(is_named));
        let index = named.ok_or_else(|| sqlx::Error::ColumnNotFound((*self).to_owned()))?;
        row.next.store(index + 1, Ordering::Relaxed);
        Ok(index)
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub struct RusqliteValueRef<'r>(Seen<'r>);

impl ValueRef<'_> for RusqliteValueRef<'_> {
    type Database = Rusqlite;

    fn to_owned(&self) -> RusqliteValue {
        match self.0 {
            Seen::Null | Seen::Real(_) => RusqliteValue::Null,
            Seen::Integer(number) => RusqliteValue::Integer(number),
            Seen::Text(text) => RusqliteValue::Text(text.to_owned()),
            Seen::Blob(bytes) => RusqliteValue::Blob(bytes.to_owned()),
        }
    }

    fn type_info(&self) -> Cow<'_, StorageClass> {
        Cow::Owned(match self.0 {
            Seen::Integer(_) => StorageClass::Integer,
            Seen::Text(_) => StorageClass::Text,
            Seen::Blob(_) => StorageClass::Blob,
            Seen::Null | Seen::Real(_) => StorageClass::Null,
        })
    }

    fn is_null(&self) -> bool {
        self.0 == Seen::Null
    }
}

/// A value on its own.
#[derive(Clone, Debug)]
pub enum RusqliteValue {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A text, which `SQLite` takes for UTF-8.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value for RusqliteValue {
    type Database = Rusqlite;

    fn as_ref(&self) -> RusqliteValueRef<'_> {
        RusqliteValueRef(match self {
            Self::Null => Seen::Null,
            Self::Integer(number) => Seen::Integer(*number),
            Self::Text(text) => Seen::Text(text),
            Self::Blob(bytes) => Seen::Blob(bytes),
        })
    }

    fn type_info(&self) -> Cow<'_, StorageClass> {
        Cow::Owned(self.as_ref().type_info().into_owned())
    }

    fn is_null(&self) -> bool {
        self.as_ref().is_null()
    }
}

/// How a type of ours is read.
macro_rules! read {
    ($type:ty, |$seen:ident| $value:expr) => {
        impl<'r> Decode<'r, Rusqlite> for $type {
            fn decode(value: RusqliteValueRef<'r>) -> Result<Self, BoxDynError> {
                let $seen = value.0;
                Ok($value)
            }
        }
    };
}

read!(bool, |seen| seen.as_i64()? != 0);
read!(i64, |seen| seen.as_i64()?);
read!(&'r str, |seen| seen.as_str()?);
read!(String, |seen| seen.as_str()?.to_owned());
read!(Vec<u8>, |seen| seen.as_blob()?.to_owned());
read!(Uuid, |seen| Uuid::from_slice(seen.as_blob()?)?);
