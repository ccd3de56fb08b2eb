//! A driver of sqlx for `SQLite` that carries a statement out on the thread that asks for it, by way of rusqlite.
//!
//! sqlx's own driver has a thread for each connection: each statement goes there and each value of each row comes back in an
//! allocation of its own, which takes several times as long as what is asked of `SQLite`. Here whoever has something to
//! ask goes to a thread once, with all of it, and brings the answer back. The futures of this driver are therefore ready
//! as soon as they are polled, and block until then: they belong on a thread where blocking is allowed.
//!
//! - `connection`: carries out; `options`: how one is opened; `transactions`: begin, commit and roll back.
//! - `arguments`: what a statement is given; `rows`: what it gives.
//! - `error`: what `SQLite` complains of.

mod arguments;
mod connection;
mod error;
mod options;
mod rows;
mod transactions;

use std::fmt;

use sqlx::{Database, TypeInfo};
use sqlx_core::database::HasStatementCache;

pub use arguments::{Argument, RusqliteArguments};
pub use connection::{RusqliteConnection, RusqliteQueryResult, RusqliteStatement};
pub use options::RusqliteOptions;
pub use rows::{RusqliteColumn, RusqliteRow, RusqliteValue, RusqliteValueRef};
pub use transactions::RusqliteTransactions;

/// `SQLite` as this driver has it.
#[derive(Debug)]
pub struct Rusqlite;

impl Database for Rusqlite {
    type Connection = RusqliteConnection;
    type TransactionManager = RusqliteTransactions;
    type Row = RusqliteRow;
    type QueryResult = RusqliteQueryResult;
    type Column = RusqliteColumn;
    type TypeInfo = StorageClass;
    type Value = RusqliteValue;
    type ValueRef<'r> = RusqliteValueRef<'r>;
    type Arguments = RusqliteArguments;
    type ArgumentBuffer = Vec<Argument>;
    type Statement = RusqliteStatement;

    const NAME: &'static str = "SQLite";
    const URL_SCHEMES: &'static [&'static str] = &["sqlite"];
}

impl HasStatementCache for Rusqlite {}

/// What a value is, whatever the column says. Numbers with a fraction are stored nowhere here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageClass {
    /// Nothing.
    Null,
    /// A number of 64 bits; a truth value is 0 or 1.
    Integer,
    /// UTF-8.
    Text,
    /// Bytes; a UUID is 16 of them.
    Blob,
}

impl TypeInfo for StorageClass {
    fn is_null(&self) -> bool {
        *self == Self::Null
    }

    fn name(&self) -> &str {
        match self {
            Self::Null => "NULL",
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
