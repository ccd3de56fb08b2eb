//! Parses JSON into messages, strictly: unknown fields, duplicate fields and values of another type are refused.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::codec::{
    json::{DUPLICATED, Json, inner_depth},
    scalar,
    violation::FieldViolation,
    well_known,
};

/// Finds a field by its JSON name or its proto name. JSON, queries and path templates may use either.
#[must_use]
pub fn find_field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// Parses a message from JSON.
///
/// # Errors
/// If a field is invalid, or if the JSON is nested deeper than `depth`. Reports the first violation only.
pub fn from_json(descriptor: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    if well_known::is_any(descriptor) {
        return any_from_json(descriptor, json, depth);
    }
    if well_known::is_well_known(descriptor) {
        return well_known::from_json(descriptor, json, depth);
    }
    let Json::Object(entries) = json else {
        return Err(FieldViolation::new("must be an object"));
    };
    let depth = inner_depth(depth)?;
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen = HashSet::new();
    for (key, json) in entries {
        let field = find_field(descriptor, key)
            .ok_or_else(|| FieldViolation::new("is not a field of this message").in_field(key))?;
        let parsed =
            if seen.insert(field.number()) { value(&field, json, depth) } else { Err(FieldViolation::new(DUPLICATED)) };
        let result = parsed.and_then(|value| value.map_or(Ok(()), |value| set(&mut message, &field, value)));
        result.map_err(|violation| violation.in_field(field.name()))?;
    }
    Ok(message)
}

const INVALID_ANY: &str =
    "must be an object with an `@type` that names a known message, and the fields of that message";

/// Parses an `Any`. The fields of its message are beside `@type`; a message with its own JSON mapping is in `value`.
/// An empty object is an empty `Any`.
fn any_from_json(descriptor: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    let Json::Object(entries) = json else {
        return Err(FieldViolation::new(INVALID_ANY));
    };
    let mut any = DynamicMessage::new(descriptor.clone());
    let (types, fields): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|(key, _)| key == "@type");
    let url = match &types[..] {
        [] if fields.is_empty() => return Ok(any),
        [(_, Json::String(url))] => url,
        [_, _, ..] => return Err(FieldViolation::new(DUPLICATED).in_field("@type")),
        _ => return Err(FieldViolation::new(INVALID_ANY)),
    };
    let inner = url.rsplit_once('/').and_then(|(_, name)| descriptor.parent_pool().get_message_by_name(name));
    let inner = inner.ok_or_else(|| FieldViolation::new(INVALID_ANY))?;
    let message = match &fields[..] {
        [(key, value)] if well_known::is_well_known(&inner) && key == "value" => {
            from_json(&inner, value, inner_depth(depth)?).map_err(|violation| violation.in_field(key))?
        }
        _ if well_known::is_well_known(&inner) => {
            return Err(FieldViolation::new("must contain only `@type` and `value`"));
        }
        _ => from_json(&inner, &Json::Object(fields), depth)?,
    };
    any.set_field_by_number(1, Value::String(url.clone()));
    any.set_field_by_number(2, Value::Bytes(message.encode_to_vec().into()));
    Ok(any)
}

/// Parses the value of a field. Returns `None` for `null`, unless `null` is a value of the type.
///
/// # Errors
/// If it is not a value of the field, or if it is nested deeper than `depth`.
pub fn value(field: &FieldDescriptor, json: &Json, depth: usize) -> Result<Option<Value>, FieldViolation> {
    match json {
        Json::Null if field.is_list() || !accepts_null(&field.kind()) => Ok(None),
        Json::Array(values) if field.is_list() => list(&field.kind(), values, inner_depth(depth)?).map(Some),
        _ if field.is_list() => Err(FieldViolation::new("must be a list")),
        Json::Object(entries) if field.is_map() => map(field, entries, inner_depth(depth)?).map(Some),
        _ if field.is_map() => Err(FieldViolation::new("must be an object")),
        json => single(&field.kind(), json, depth).map(Some),
    }
}

/// Sets a field.
///
/// # Errors
/// If another field of the same oneof is set, since it would be cleared.
pub fn set(message: &mut DynamicMessage, field: &FieldDescriptor, value: Value) -> Result<(), FieldViolation> {
    check_oneof(message, field)?;
    message.set_field(field, value);
    Ok(())
}

/// Checks that no other field of the same oneof is set.
///
/// # Errors
/// If another field is set.
pub fn check_oneof(message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), FieldViolation> {
    let Some(oneof) = field.containing_oneof() else { return Ok(()) };
    match oneof.fields().find(|other| other != field && message.has_field(other)) {
        Some(other) => Err(FieldViolation::new(format!("cannot be set together with {}", other.name()))),
        None => Ok(()),
    }
}

fn accepts_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(descriptor) => descriptor.full_name() == well_known::NULL_VALUE,
        _ => false,
    }
}

fn single(kind: &Kind, json: &Json, depth: usize) -> Result<Value, FieldViolation> {
    match (kind, json) {
        (Kind::Message(descriptor), json) => from_json(descriptor, json, depth).map(Value::Message),
        (Kind::Enum(descriptor), Json::Null) if descriptor.full_name() == well_known::NULL_VALUE => {
            Ok(Value::EnumNumber(0))
        }
        (_, Json::Null) => Err(FieldViolation::new("cannot be null")),
        (kind, json) => scalar::from_json(kind, json),
    }
}

fn list(kind: &Kind, values: &[Json], depth: usize) -> Result<Value, FieldViolation> {
    let values = values.iter().enumerate();
    let parse = |(index, json): (usize, &Json)| {
        single(kind, json, depth).map_err(|violation| violation.at_index(&index.to_string()))
    };
    values.map(parse).collect::<Result<_, _>>().map(Value::List)
}

fn map(field: &FieldDescriptor, entries: &[(String, Json)], depth: usize) -> Result<Value, FieldViolation> {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map field is of a message type");
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut map = HashMap::new();
    for (key, json) in entries {
        let parsed = map_key(&key_kind, key).and_then(|key| Ok((key, single(&value_kind, json, depth)?)));
        let (map_key, value) = parsed.map_err(|violation| violation.at_index(key))?;
        if map.insert(map_key, value).is_some() {
            return Err(FieldViolation::new(DUPLICATED).at_index(key));
        }
    }
    Ok(Value::Map(map))
}

fn map_key(kind: &Kind, text: &str) -> Result<MapKey, FieldViolation> {
    Ok(match scalar::from_text(kind, text)? {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        _ => unreachable!("protobuf has no map keys of other types"),
    })
}
