//! The keys of maps.

use crate::codec::{
    integer,
    json_buffer::JsonBuffer,
    record::Record,
    types::Kind,
    wire::{Malformed, WireValue},
};

/// A key of a map. The keys of one map are all texts, all booleans, or all integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapKey<'a> {
    /// A string.
    Text(&'a str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i128),
}

impl<'a> MapKey<'a> {
    /// Returns the last of the keys in an entry, or the default if there is none.
    ///
    /// # Errors
    /// If a key has another type.
    pub fn last(kind: &Kind, keys: &[Record<'a>]) -> Result<Self, Malformed> {
        let default = match kind {
            Kind::String => Self::Text(""),
            Kind::Bool => Self::Bool(false),
            _ => Self::Integer(0),
        };
        keys.iter().try_fold(default, |_, key| Self::new(kind, key.value))
    }

    fn new(kind: &Kind, value: WireValue<'a>) -> Result<Self, Malformed> {
        match (kind, value) {
            (Kind::String, WireValue::Bytes(value)) => {
                std::str::from_utf8(value).map(Self::Text).map_err(|_| Malformed)
            }
            (Kind::Bool, WireValue::Varint(value)) => Ok(Self::Bool(value != 0)),
            (kind, value) => integer::decode(kind, value).map(Self::Integer).ok_or(Malformed),
        }
    }

    /// Writes the key as a string.
    pub fn write(&self, json: &mut JsonBuffer) {
        match self {
            Self::Text(key) => json.push_json(*key),
            Self::Bool(key) => json.push_quoted(key),
            Self::Integer(key) => json.push_quoted(key),
        }
    }
}
