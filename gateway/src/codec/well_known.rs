//! The message types that have a JSON form of their own: timestamps, field masks, wrappers and the like.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use crate::codec::{
    json::{Json, deeper},
    scalar,
    violation::FieldViolation,
};

/// The message type that holds a message of any type.
pub const ANY: &str = "google.protobuf.Any";

/// The one enum with a JSON form of its own.
pub const NULL_VALUE: &str = "google.protobuf.NullValue";

/// What the JSON of a type looks like.
enum Shape {
    /// That of its only field, `value`.
    Wrapper,
    /// A string that this module reads.
    FieldMask,
    /// What prost-reflect reads; the text says what it takes.
    Foreign { is_string: bool, expectation: &'static str },
}

fn shape(of: &MessageDescriptor) -> Option<Shape> {
    let string = |expectation| Some(Shape::Foreign { is_string: true, expectation });
    let other = |expectation| Some(Shape::Foreign { is_string: false, expectation });
    match of.full_name().strip_prefix("google.protobuf.")? {
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => Some(Shape::Wrapper),
        "FieldMask" => Some(Shape::FieldMask),
        "Timestamp" => {
            string("must be a time of RFC 3339 such as 2026-11-30T08:00:00Z, from year 1 to 9999, down to nanoseconds")
        }
        "Duration" => string("must be a duration in seconds such as 1.5s, down to nanoseconds"),
        "Struct" => other("must be an object"),
        "ListValue" => other("must be a list"),
        "Value" => other("must be JSON"),
        "Empty" => other("must be an empty object"),
        _ => None,
    }
}

/// Whether a message type has a JSON form of its own.
#[must_use]
pub fn is(of: &MessageDescriptor) -> bool {
    is_any(of) || shape(of).is_some()
}

/// Reports whether a message type holds a message of any type. [`crate::codec::message`] reads it.
#[must_use]
pub fn is_any(of: &MessageDescriptor) -> bool {
    of.full_name() == ANY
}

/// Whether a message type is that of a scalar that may be absent.
#[must_use]
pub fn is_wrapper(of: &MessageDescriptor) -> bool {
    matches!(shape(of), Some(Shape::Wrapper))
}

/// Reports whether the JSON form of a message type is a scalar, which a query parameter can contain.
#[must_use]
pub fn is_text(of: &MessageDescriptor) -> bool {
    matches!(shape(of), Some(Shape::Wrapper | Shape::FieldMask | Shape::Foreign { is_string: true, .. }))
}

/// Reads a message of such a type, other than [`ANY`].
///
/// # Errors
/// If the JSON is not of its form.
pub fn from_json(of: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    match (shape(of), json) {
        (Some(Shape::Wrapper), json) => {
            let field = of.get_field(1).expect("a wrapper has one field");
            Ok(first_field(of, scalar::from_json(&field.kind(), json)?))
        }
        (Some(Shape::FieldMask), Json::String(text)) => field_mask(of, text),
        (Some(Shape::Foreign { is_string: true, expectation }), Json::String(text)) if is_too_fine(text) => {
            Err(FieldViolation::new(expectation))
        }
        (Some(Shape::FieldMask) | None, _) => {
            Err(FieldViolation::new("must be a string of field paths divided by commas"))
        }
        (Some(Shape::Foreign { expectation, .. }), json) => {
            if matches!(json, Json::Array(_) | Json::Object(_)) {
                deeper(depth)?;
            }
            let value = json.to_value(depth)?;
            DynamicMessage::deserialize(of.clone(), value).map_err(|_| FieldViolation::new(expectation))
        }
    }
}

/// Reads a message of such a type from the text in a query.
///
/// # Errors
/// If the text is not of its form.
pub fn from_text(of: &MessageDescriptor, text: &str) -> Result<DynamicMessage, FieldViolation> {
    match shape(of) {
        Some(Shape::Wrapper) => {
            let field = of.get_field(1).expect("a wrapper has one field");
            Ok(first_field(of, scalar::from_text(&field.kind(), text)?))
        }
        _ => from_json(of, &Json::String(text.to_owned()), 1),
    }
}

/// Whether a time says more than nanoseconds; prost would drop the rest.
fn is_too_fine(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count() > 9
}

/// A field mask of these paths.
#[must_use]
pub fn mask_of(of: &MessageDescriptor, paths: Vec<String>) -> DynamicMessage {
    first_field(of, Value::List(paths.into_iter().map(Value::String).collect()))
}

fn first_field(of: &MessageDescriptor, value: Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    message.set_field_by_number(1, value);
    message
}

/// `displayName,dueTime` is what proto3 JSON asks for; the spelling of the proto is taken too, as everywhere.
fn field_mask(of: &MessageDescriptor, text: &str) -> Result<DynamicMessage, FieldViolation> {
    let mut paths = Vec::new();
    for path in text.split(',').filter(|_| !text.is_empty()) {
        if path.is_empty() {
            return Err(FieldViolation::new("holds an empty path"));
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
    Ok(mask_of(of, paths))
}
