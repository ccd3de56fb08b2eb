//! The well-known types, which have their own JSON mappings: timestamps, field masks, wrappers and others.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use crate::codec::{
    json::{Json, inner_depth},
    scalar,
    violation::FieldViolation,
};

/// The message type that contains a message of any type.
pub const ANY: &str = "google.protobuf.Any";

/// The only enum with its own JSON mapping.
pub const NULL_VALUE: &str = "google.protobuf.NullValue";

/// The JSON mapping of a type.
enum JsonMapping {
    /// That of its only field, `value`.
    Wrapper,
    /// A string that this module parses.
    FieldMask,
    /// A mapping that prost-reflect parses. `expectation` describes valid values.
    ProstReflect { is_string: bool, expectation: &'static str },
}

fn json_mapping(descriptor: &MessageDescriptor) -> Option<JsonMapping> {
    let string = |expectation| Some(JsonMapping::ProstReflect { is_string: true, expectation });
    let other = |expectation| Some(JsonMapping::ProstReflect { is_string: false, expectation });
    match descriptor.full_name().strip_prefix("google.protobuf.")? {
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => Some(JsonMapping::Wrapper),
        "FieldMask" => Some(JsonMapping::FieldMask),
        "Timestamp" => string(
            "must be an RFC 3339 time such as 2026-11-30T08:00:00Z, from year 1 to 9999, with at most 9 decimals",
        ),
        "Duration" => string("must be a duration in seconds such as 1.5s, with at most 9 decimals"),
        "Struct" => other("must be an object"),
        "ListValue" => other("must be a list"),
        "Value" => other("must be JSON"),
        "Empty" => other("must be an empty object"),
        _ => None,
    }
}

/// Reports whether a message type has its own JSON mapping.
#[must_use]
pub fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    is_any(descriptor) || json_mapping(descriptor).is_some()
}

/// Reports whether a message type is [`ANY`], which [`crate::codec::message`] parses.
#[must_use]
pub fn is_any(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name() == ANY
}

/// Reports whether a message type wraps a scalar, such as `StringValue`.
#[must_use]
pub fn is_wrapper(descriptor: &MessageDescriptor) -> bool {
    matches!(json_mapping(descriptor), Some(JsonMapping::Wrapper))
}

/// Reports whether the JSON mapping of a message type is a scalar, which a query parameter can contain.
#[must_use]
pub fn has_string_mapping(descriptor: &MessageDescriptor) -> bool {
    matches!(
        json_mapping(descriptor),
        Some(JsonMapping::Wrapper | JsonMapping::FieldMask | JsonMapping::ProstReflect { is_string: true, .. })
    )
}

/// Parses a well-known type other than [`ANY`].
///
/// # Errors
/// If the JSON does not match the mapping of the type, or if it is nested deeper than `depth`.
pub fn from_json(descriptor: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    match (json_mapping(descriptor), json) {
        (Some(JsonMapping::Wrapper), json) => {
            let field = descriptor.get_field(1).expect("a wrapper has one field");
            Ok(with_first_field(descriptor, scalar::from_json(&field.kind(), json)?))
        }
        (Some(JsonMapping::FieldMask), Json::String(text)) => parse_field_mask(descriptor, text),
        (Some(JsonMapping::ProstReflect { is_string: true, expectation }), Json::String(text))
            if is_finer_than_nanoseconds(text) =>
        {
            Err(FieldViolation::new(expectation))
        }
        (Some(JsonMapping::FieldMask) | None, _) => {
            Err(FieldViolation::new("must be a string of field paths separated by commas"))
        }
        (Some(JsonMapping::ProstReflect { expectation, .. }), json) => {
            if matches!(json, Json::Array(_) | Json::Object(_)) {
                inner_depth(depth)?;
            }
            let value = json.to_value(depth)?;
            DynamicMessage::deserialize(descriptor.clone(), value).map_err(|_| FieldViolation::new(expectation))
        }
    }
}

/// Parses a well-known type from the text of a path or a query.
///
/// # Errors
/// If the text does not match the JSON mapping of the type.
pub fn from_text(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, FieldViolation> {
    match json_mapping(descriptor) {
        Some(JsonMapping::Wrapper) => {
            let field = descriptor.get_field(1).expect("a wrapper has one field");
            Ok(with_first_field(descriptor, scalar::from_text(&field.kind(), text)?))
        }
        _ => from_json(descriptor, &Json::String(text.to_owned()), 1),
    }
}

/// Reports whether a time is more precise than nanoseconds. prost would drop the excess digits.
fn is_finer_than_nanoseconds(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count() > 9
}

/// Creates a field mask with these paths.
#[must_use]
pub fn field_mask(descriptor: &MessageDescriptor, paths: Vec<String>) -> DynamicMessage {
    with_first_field(descriptor, Value::List(paths.into_iter().map(Value::String).collect()))
}

fn with_first_field(descriptor: &MessageDescriptor, value: Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_number(1, value);
    message
}

/// Parses a field mask such as `displayName,dueTime`. Proto field names are accepted too, as in other fields.
fn parse_field_mask(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, FieldViolation> {
    let mut paths = Vec::new();
    for path in text.split(',').filter(|_| !text.is_empty()) {
        if path.is_empty() {
            return Err(FieldViolation::new("contains an empty path"));
        }
        let mut snake = String::with_capacity(path.len());
        for letter in path.chars() {
            if letter.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        paths.push(snake);
    }
    Ok(field_mask(descriptor, paths))
}
