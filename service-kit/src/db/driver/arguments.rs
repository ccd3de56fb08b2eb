//! What a statement is given.

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};
use sqlx::{Arguments, Encode, Type, encode::IsNull, error::BoxDynError};
use uuid::Uuid;

use super::{Rusqlite, StorageClass};

/// The values that a statement is given, in the order of their numbers.
#[derive(Debug, Default)]
pub struct RusqliteArguments(pub(super) Vec<Argument>);

/// A value that a statement is given.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Nothing.
    Null,
    /// A number or a truth value.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
    /// The bytes of a UUID.
    Uuid(Uuid),
}

impl Arguments for RusqliteArguments {
    type Database = Rusqlite;

    fn reserve(&mut self, additional: usize, _size: usize) {
        self.0.reserve(additional);
    }

    fn add<'t, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'t, Rusqlite> + Type<Rusqlite>,
    {
        if value.encode(&mut self.0)?.is_null() {
            self.0.push(Argument::Null);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

sqlx_core::impl_into_arguments_for_arguments!(RusqliteArguments);

impl ToSql for Argument {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Uuid(id) => ValueRef::Blob(id.as_bytes()),
        }))
    }
}

/// How a type of ours is given to a statement.
macro_rules! give {
    ($type:ty, $class:ident, |$value:ident| $argument:expr) => {
        impl Type<Rusqlite> for $type {
            fn type_info() -> StorageClass {
                StorageClass::$class
            }
        }

        impl Encode<'_, Rusqlite> for $type {
            fn encode(self, buffer: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
                let $value = self;
                buffer.push($argument);
                Ok(IsNull::No)
            }

            fn encode_by_ref(&self, buffer: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
                Encode::<Rusqlite>::encode(self.clone(), buffer)
            }
        }
    };
}

give!(bool, Integer, |value| Argument::Integer(value.into()));
give!(i64, Integer, |value| Argument::Integer(value));
give!(String, Text, |value| Argument::Text(value));
give!(Vec<u8>, Blob, |value| Argument::Blob(value));
give!(Uuid, Blob, |value| Argument::Uuid(value));
sqlx_core::impl_encode_for_option!(Rusqlite);

impl Type<Rusqlite> for str {
    fn type_info() -> StorageClass {
        StorageClass::Text
    }
}

impl Encode<'_, Rusqlite> for &str {
    fn encode_by_ref(&self, buffer: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        buffer.push(Argument::Text((*self).to_owned()));
        Ok(IsNull::No)
    }
}
