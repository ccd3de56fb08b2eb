//! JSON as it was sent: the keys of an object in their order, with those that are doubled, which `serde_json::Value`
//! would drop.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::codec::violation::FieldViolation;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// An object; keys may be doubled.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value in the form that prost-reflect reads, if it is nested at most `depth` deep and no key is doubled.
    ///
    /// # Errors
    /// Where it is not so.
    pub fn to_value(&self, depth: usize) -> Result<Value, FieldViolation> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::String(value) => Value::String(value.clone()),
            Self::Array(values) => {
                let depth = deeper(depth)?;
                let values = values.iter().enumerate();
                let read = |(index, value): (usize, &Self)| {
                    value.to_value(depth).map_err(|violation| violation.at_index(&index.to_string()))
                };
                Value::Array(values.map(read).collect::<Result<_, _>>()?)
            }
            Self::Object(entries) => {
                let depth = deeper(depth)?;
                let mut seen = HashSet::new();
                let read = |(key, value): &(String, Self)| {
                    let value = value.to_value(depth).and_then(|value| {
                        if seen.insert(key.clone()) { Ok(value) } else { Err(FieldViolation::new(DOUBLED)) }
                    });
                    Ok((key.clone(), value.map_err(|violation| violation.in_field(key))?))
                };
                Value::Object(entries.iter().map(read).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// What is said of a key that an object has twice.
pub const DOUBLED: &str = "is given twice";

/// How deep what is inside of a list or an object may be nested, if that list or object may be `depth` deep.
///
/// # Errors
/// If not even it may be there.
pub fn deeper(depth: usize) -> Result<usize, FieldViolation> {
    depth.checked_sub(1).ok_or_else(|| FieldViolation::new("is nested too deep"))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Json {
        serde_json::from_str(text).expect("the text is JSON")
    }

    #[test]
    fn doubled_keys_are_kept() {
        let Json::Object(entries) = parse(r#"{"a":1,"a":null}"#) else { panic!("an object") };
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn a_doubled_key_is_no_value() {
        let violation = parse(r#"{"a":[{"b":1,"b":2}]}"#).to_value(9).expect_err("refused");
        assert_eq!((violation.path.as_str(), &*violation.description), ("a[0].b", DOUBLED));
    }

    #[test]
    fn depth_counts_lists_and_objects() {
        assert!(parse(r#"{"a":[1]}"#).to_value(2).is_ok());
        assert_eq!(parse(r#"{"a":[1]}"#).to_value(1).expect_err("refused").path, "a");
    }
}
