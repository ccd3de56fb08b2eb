//! JSON values that preserve the order of object keys and duplicate keys, which `serde_json::Value` drops.

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
    /// An array.
    Array(Vec<Json>),
    /// An object; it may have duplicate keys.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Converts the value to the type that prost-reflect reads.
    ///
    /// # Errors
    /// If it is nested deeper than `depth` or contains a duplicate key.
    pub fn to_value(&self, depth: usize) -> Result<Value, FieldViolation> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::String(value) => Value::String(value.clone()),
            Self::Array(values) => {
                let depth = inner_depth(depth)?;
                let values = values.iter().enumerate();
                let convert = |(index, value): (usize, &Self)| {
                    value.to_value(depth).map_err(|violation| violation.at_index(&index.to_string()))
                };
                Value::Array(values.map(convert).collect::<Result<_, _>>()?)
            }
            Self::Object(entries) => {
                let depth = inner_depth(depth)?;
                let mut seen = HashSet::new();
                let convert = |(key, value): &(String, Self)| {
                    let value = value.to_value(depth).and_then(|value| {
                        if seen.insert(key.clone()) { Ok(value) } else { Err(FieldViolation::new(DUPLICATED)) }
                    });
                    Ok((key.clone(), value.map_err(|violation| violation.in_field(key))?))
                };
                Value::Object(entries.iter().map(convert).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// A value that fits no field: not even a value of any type may have duplicate keys.
const FITS_NO_FIELD: &[u8] = br#"[{"":0,"":0}]"#;

/// Replaces the numbers that are too large for a double, which the parser refuses, by a value that fits no field, so that
/// the violation has the path of the field. Returns `None` if the text contains no such number outside of strings.
#[must_use]
pub fn replace_too_large_numbers(text: &[u8]) -> Option<Vec<u8>> {
    let (mut replaced, mut rest, mut is_string, mut found) = (Vec::with_capacity(text.len()), text, false, false);
    while let Some(&byte) = rest.first() {
        let is_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let length = match byte {
            b'\\' if is_string => rest.len().min(2),
            b'-' | b'0'..=b'9' if !is_string => rest.iter().take_while(|byte| is_number(byte)).count(),
            _ => 1,
        };
        is_string ^= byte == b'"';
        let (token, remaining) = rest.split_at(length);
        let is_too_large = length > 1 && !is_string && is_too_large(token);
        replaced.extend_from_slice(if is_too_large { FITS_NO_FIELD } else { token });
        (rest, found) = (remaining, found || is_too_large);
    }
    found.then_some(replaced)
}

/// Reports whether a token is a number in the grammar of JSON that is too large for a double.
fn is_too_large(token: &[u8]) -> bool {
    let is_infinite = std::str::from_utf8(token).is_ok_and(|text| text.parse().is_ok_and(f64::is_infinite));
    // The parser checks the grammar first.
    is_infinite && serde_json::from_slice::<f64>(token).is_err_and(|error| error.to_string().starts_with(OUT_OF_RANGE))
}

/// The beginning of the message of the parser, which has no other way to tell this error.
const OUT_OF_RANGE: &str = "number out of range";

/// The description of the violation for a duplicate key.
pub const DUPLICATED: &str = "is duplicated";

/// Returns the maximum depth of the values inside an array or object whose own maximum depth is `depth`.
///
/// # Errors
/// If `depth` is 0: not even the array or object itself is allowed.
pub fn inner_depth(depth: usize) -> Result<usize, FieldViolation> {
    depth.checked_sub(1).ok_or_else(|| FieldViolation::new("is nested too deeply"))
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
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
    fn duplicate_keys_are_preserved() {
        let Json::Object(entries) = parse(r#"{"a":1,"a":null}"#) else { panic!("must be an object") };
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn to_value_refuses_duplicate_keys() {
        let violation = parse(r#"{"a":[{"b":1,"b":2}]}"#).to_value(9).expect_err("the key is duplicated");
        assert_eq!((violation.path.as_str(), &*violation.description), ("a[0].b", DUPLICATED));
    }

    #[test]
    fn too_large_numbers_are_replaced_outside_of_strings() {
        let replaced = |text: &str| {
            let replaced = replace_too_large_numbers(text.as_bytes());
            replaced.map(|text| String::from_utf8(text).expect("UTF-8").replace(r#"[{"":0,"":0}]"#, "N"))
        };
        for (text, expected) in [
            ("1e999", "N"),
            (r#"{"a":-1e999,"b":[1,2E+400]}"#, r#"{"a":N,"b":[1,N]}"#),
            (r#"{"1e999":"\"1e999","b":1e999}"#, r#"{"1e999":"\"1e999","b":N}"#),
        ] {
            assert_eq!(replaced(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(replaced(&"9".repeat(400)).as_deref(), Some("N"));
        for text in ["", "1e308", "01e999", "1.e999", "1e999.5", "1e9999e", r#""1e999""#, r#""\\"#, "\"", "-"] {
            assert_eq!(replaced(text), None, "{text}");
        }
    }

    #[test]
    fn arrays_and_objects_each_add_one_level_of_depth() {
        assert!(parse(r#"{"a":[1]}"#).to_value(2).is_ok());
        assert_eq!(parse(r#"{"a":[1]}"#).to_value(1).expect_err("the depth is 2").path, "a");
    }
}
