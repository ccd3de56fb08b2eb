//! Schemas of scalars, enums and well-known types.

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comment;
use crate::codec::well_known;

/// Adds a description to a schema unless it is empty.
#[must_use]
pub fn with_description(schema: Value, description: &str) -> Map<String, Value> {
    let Value::Object(mut schema) = schema else { unreachable!("schemas are objects") };
    if !description.is_empty() {
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

/// Returns a schema that also accepts `null`.
#[must_use]
pub fn nullable(schema: Value) -> Value {
    match schema {
        Value::Object(mut schema) if schema.get("type").is_some_and(Value::is_string) => {
            let original = schema["type"].take();
            schema.insert("type".to_owned(), json!([original, "null"]));
            schema.into()
        }
        schema => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// Returns the schema of an enum, which lists the names of its values because responses contain names.
#[must_use]
pub fn enumeration(descriptor: &EnumDescriptor) -> Value {
    let names: Vec<_> = descriptor.values().map(|value| value.name().to_owned()).collect();
    let items: Vec<_> = descriptor
        .values()
        .map(|value| (value.name().to_owned(), comment::leading(&descriptor.parent_file(), value.path())))
        .filter(|(_, comment)| !comment.is_empty())
        .map(|(name, comment)| format!("- `{name}`: {comment}"))
        .collect();
    let comment = comment::leading(&descriptor.parent_file(), descriptor.path());
    let description = [comment, items.join("\n")].join("\n\n");
    with_description(json!({"type": "string", "enum": names}), description.trim()).into()
}

/// Returns the schema of a scalar.
#[must_use]
pub fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        // ProtoJSON writes 64-bit integers as strings, because JavaScript numbers cannot represent them exactly.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::String | Kind::Enum(_) | Kind::Message(_) => json!({"type": "string"}),
    }
}

/// Returns the schema of a well-known type, which has its own JSON representation, or `None` for any other message.
#[must_use]
pub fn well_known(message: &MessageDescriptor) -> Option<Value> {
    if !well_known::is_well_known(message) {
        return None;
    }
    Some(match message.name() {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "Struct" | "Empty" => json!({"type": "object"}),
        "ListValue" => json!({"type": "array"}),
        "Any" => json!({"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]}),
        "Value" => json!({}),
        _ => message.get_field(1).map_or_else(|| json!({}), |field| scalar(&field.kind())),
    })
}
