//! From JSON to a message, strictly: no unknown field, no field twice, no value of another type.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::codec::{
    json::{DOUBLED, Json, deeper},
    scalar,
    violation::FieldViolation,
    well_known,
};

/// The field that a name in JSON, in a query or in a path template means: both spellings are good.
#[must_use]
pub fn field_named(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// Reads a message from JSON that is nested at most `depth` deep.
///
/// # Errors
/// The first invalid field.
pub fn from_json(of: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    if well_known::is_any(of) {
        return any(of, json, depth);
    }
    if well_known::is(of) {
        return well_known::from_json(of, json, depth);
    }
    let Json::Object(entries) = json else {
        return Err(FieldViolation::new("must be an object"));
    };
    let depth = deeper(depth)?;
    let mut message = DynamicMessage::new(of.clone());
    let mut seen = HashSet::new();
    for (key, json) in entries {
        let field =
            field_named(of, key).ok_or_else(|| FieldViolation::new("is no field of this message").in_field(key))?;
        let read =
            if seen.insert(field.number()) { value(&field, json, depth) } else { Err(FieldViolation::new(DOUBLED)) };
        let set = read.and_then(|value| value.map_or(Ok(()), |value| set(&mut message, &field, value)));
        set.map_err(|violation| violation.in_field(field.name()))?;
    }
    Ok(message)
}

const UNKNOWN_ANY: &str = "must be an object whose @type names a known message, with the fields of that message";

/// The message in an `Any` is read as it would be anywhere else; one with a JSON form of its own is its `value`. An
/// empty object is an `Any` without a message.
fn any(of: &MessageDescriptor, json: &Json, depth: usize) -> Result<DynamicMessage, FieldViolation> {
    let Json::Object(entries) = json else {
        return Err(FieldViolation::new(UNKNOWN_ANY));
    };
    let mut any = DynamicMessage::new(of.clone());
    let (types, fields): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|(key, _)| key == "@type");
    let url = match &types[..] {
        [] if fields.is_empty() => return Ok(any),
        [(_, Json::String(url))] => url,
        [_, _, ..] => return Err(FieldViolation::new(DOUBLED).in_field("@type")),
        _ => return Err(FieldViolation::new(UNKNOWN_ANY)),
    };
    let named = url.rsplit_once('/').and_then(|(_, name)| of.parent_pool().get_message_by_name(name));
    let inner = named.ok_or_else(|| FieldViolation::new(UNKNOWN_ANY))?;
    let message = match &fields[..] {
        [(key, value)] if well_known::is(&inner) && key == "value" => {
            from_json(&inner, value, deeper(depth)?).map_err(|violation| violation.in_field(key))?
        }
        _ if well_known::is(&inner) => return Err(FieldViolation::new("must hold its @type and its value")),
        _ => from_json(&inner, &Json::Object(fields), depth)?,
    };
    any.set_field_by_number(1, Value::String(url.clone()));
    any.set_field_by_number(2, Value::Bytes(message.encode_to_vec().into()));
    Ok(any)
}

/// Reads the value of a field. JSON's `null` is no value, except where a type has it for one.
///
/// # Errors
/// If it is not a value of the field.
pub fn value(field: &FieldDescriptor, json: &Json, depth: usize) -> Result<Option<Value>, FieldViolation> {
    match json {
        Json::Null if field.is_list() || !takes_null(&field.kind()) => Ok(None),
        Json::Array(values) if field.is_list() => list(&field.kind(), values, deeper(depth)?).map(Some),
        _ if field.is_list() => Err(FieldViolation::new("must be a list")),
        Json::Object(entries) if field.is_map() => map(field, entries, deeper(depth)?).map(Some),
        _ if field.is_map() => Err(FieldViolation::new("must be an object")),
        json => single(&field.kind(), json, depth).map(Some),
    }
}

/// Sets a field, unless another one of the same oneof is set, which would have to go.
///
/// # Errors
/// If so.
pub fn set(message: &mut DynamicMessage, field: &FieldDescriptor, value: Value) -> Result<(), FieldViolation> {
    check_oneof(message, field)?;
    message.set_field(field, value);
    Ok(())
}

/// Checks that no other field of the same oneof is set.
///
/// # Errors
/// If one is.
pub fn check_oneof(message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), FieldViolation> {
    let Some(oneof) = field.containing_oneof() else { return Ok(()) };
    match oneof.fields().find(|other| other != field && message.has_field(other)) {
        Some(rival) => Err(FieldViolation::new(format!("cannot be given together with {}", rival.name()))),
        None => Ok(()),
    }
}

fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(of) => of.full_name() == well_known::NULL_VALUE,
        _ => false,
    }
}

fn single(kind: &Kind, json: &Json, depth: usize) -> Result<Value, FieldViolation> {
    match (kind, json) {
        (Kind::Message(of), json) => from_json(of, json, depth).map(Value::Message),
        (Kind::Enum(of), Json::Null) if of.full_name() == well_known::NULL_VALUE => Ok(Value::EnumNumber(0)),
        (_, Json::Null) => Err(FieldViolation::new("cannot be null")),
        (kind, json) => scalar::from_json(kind, json),
    }
}

fn list(kind: &Kind, values: &[Json], depth: usize) -> Result<Value, FieldViolation> {
    let values = values.iter().enumerate();
    let read = |(index, json): (usize, &Json)| {
        single(kind, json, depth).map_err(|violation| violation.at_index(&index.to_string()))
    };
    values.map(read).collect::<Result<_, _>>().map(Value::List)
}

fn map(field: &FieldDescriptor, entries: &[(String, Json)], depth: usize) -> Result<Value, FieldViolation> {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map field is of a message type");
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut map = HashMap::new();
    for (key, json) in entries {
        let read = map_key(&key_kind, key).and_then(|key| Ok((key, single(&value_kind, json, depth)?)));
        let (map_key, value) = read.map_err(|violation| violation.at_index(key))?;
        if map.insert(map_key, value).is_some() {
            return Err(FieldViolation::new(DOUBLED).at_index(key));
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
