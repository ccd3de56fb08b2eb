//! Schemas of what is no message of the contract: scalars, enums, and the well-known types.

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comment;
use crate::codec::well_known;

/// A schema with a description, if there is anything to say.
#[must_use]
pub fn annotated(schema: Value, description: &str) -> Map<String, Value> {
    let Value::Object(mut schema) = schema else { unreachable!("schemas are objects") };
    if !description.is_empty() {
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

/// The same schema, for `null` too.
#[must_use]
pub fn or_null(schema: Value) -> Value {
    match schema {
        Value::Object(mut schema) if schema.get("type").is_some_and(Value::is_string) => {
            let only = schema["type"].take();
            schema.insert("type".to_owned(), json!([only, "null"]));
            schema.into()
        }
        schema => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// The schema of an enum: the names of its values, which are what is answered.
#[must_use]
pub fn of_enum(of: &EnumDescriptor) -> Value {
    let names: Vec<_> = of.values().map(|value| value.name().to_owned()).collect();
    let meanings: Vec<_> = of
        .values()
        .map(|value| (value.name().to_owned(), comment::of(&of.parent_file(), value.path())))
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("- `{name}`: {text}"))
        .collect();
    let text = [comment::of(&of.parent_file(), of.path()), meanings.join("\n")].join("\n\n");
    annotated(json!({"type": "string", "enum": names}), text.trim()).into()
}

/// The schema of a scalar.
#[must_use]
pub fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        // As strings, because JavaScript's numbers do not hold them.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::String | Kind::Enum(_) | Kind::Message(_) => json!({"type": "string"}),
    }
}

/// The schema of a message that has a JSON form of its own; none for any other.
#[must_use]
pub fn well_known(of: &MessageDescriptor) -> Option<Value> {
    if !well_known::is(of) {
        return None;
    }
    Some(match of.name() {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "Struct" | "Empty" => json!({"type": "object"}),
        "ListValue" => json!({"type": "array"}),
        "Any" => json!({"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]}),
        "Value" => json!({}),
        _ => of.get_field(1).map_or_else(|| json!({}), |field| scalar(&field.kind())),
    })
}
