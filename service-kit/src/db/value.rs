//! Arguments of SQL statements.

use std::fmt;

use uuid::Uuid;

use crate::clock::Timestamp;

/// An argument of a SQL statement. NULL has a type, too, because PostgreSQL requires one.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `boolean`; in SQLite the integer 0 or 1.
    Bool(Option<bool>),
    /// `bigint`.
    Int(Option<i64>),
    /// `text`.
    Text(Option<String>),
    /// `bytea` or `blob`.
    Bytes(Option<Vec<u8>>),
    /// `uuid`; in SQLite a blob of 16 bytes.
    Uuid(Option<Uuid>),
}

impl fmt::Debug for Value {
    /// Shows the type only: the value may be a password hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool",
            Self::Int(_) => "Int",
            Self::Text(_) => "Text",
            Self::Bytes(_) => "Bytes",
            Self::Uuid(_) => "Uuid",
        })
    }
}

/// Builds the arguments of a statement: `args![owner, id]` binds `$1` and `$2`. A macro because the number of arguments
/// and their types vary.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::db::Value::from($value)),*] };
}

/// Converts a type, and the `Option` of it, into an argument. A macro because the implementations differ in names only.
macro_rules! impl_from {
    ($($type:ty => $variant:ident, |$value:ident| $converted:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$variant(Some($converted))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(|$value| $converted))
            }
        }
    )*};
}

impl_from! {
    bool => Bool, |value| value;
    i64 => Int, |value| value;
    Timestamp => Int, |value| value.as_micros();
    String => Text, |value| value;
    &str => Text, |value| value.to_owned();
    &String => Text, |value| value.clone();
    Vec<u8> => Bytes, |value| value;
    Uuid => Uuid, |value| value;
}
