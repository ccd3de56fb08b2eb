//! The JSON of decoded messages, with which tests and fuzz targets compare the JSON of [`crate::codec::message_writer`].
//!
//! prost-reflect serializes most well-known types, but not all of them correctly: a wrapped NaN becomes `null`, and
//! an empty `Any` an error. Map entries are sorted by key, so that responses are deterministic.

use std::collections::{BTreeMap, HashMap};

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, SerializeOptions, Value};
use serde::ser::{Error, Serialize, SerializeMap, Serializer};

use crate::codec::well_known;

/// The JSON of a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageJson<'a>(pub &'a DynamicMessage);

impl Serialize for MessageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        if descriptor.full_name() == well_known::ANY {
            return serialize_any(self.0, serializer);
        }
        if well_known::is_wrapper(&descriptor) {
            let field = descriptor.get_field(1).expect("a wrapper has one field");
            return ValueJson { value: &self.0.get_field(&field), kind: &field.kind() }.serialize(serializer);
        }
        if well_known::is_well_known(&descriptor) {
            return self.0.serialize_with_options(serializer, &SerializeOptions::new());
        }
        let mut map = serializer.serialize_map(None)?;
        serialize_fields(self.0, &mut map)?;
        map.end()
    }
}

/// The JSON of a field of a message; `null` if the field is not set.
#[derive(Clone, Copy, Debug)]
pub struct FieldJson<'a>(pub &'a DynamicMessage, pub &'a FieldDescriptor);

impl FieldJson<'_> {
    fn is_absent(&self) -> bool {
        self.1.supports_presence() && !self.0.has_field(self.1)
    }
}

impl Serialize for FieldJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_absent() {
            return serializer.serialize_none();
        }
        ValueJson { value: &self.0.get_field(self.1), kind: &self.1.kind() }.serialize(serializer)
    }
}

fn serialize_fields<M: SerializeMap>(message: &DynamicMessage, map: &mut M) -> Result<(), M::Error> {
    for field in message.descriptor().fields() {
        let json = FieldJson(message, &field);
        if !json.is_absent() {
            map.serialize_entry(field.json_name(), &json)?;
        }
    }
    Ok(())
}

/// Serializes the message in an `Any` with its type. An empty `Any` is an empty object.
fn serialize_any<S: Serializer>(any: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let pool = any.descriptor().parent_pool().clone();
    let any: prost_types::Any = any.transcode_to().map_err(S::Error::custom)?;
    let mut map = serializer.serialize_map(None)?;
    if any == prost_types::Any::default() {
        return map.end();
    }
    let inner = any.type_url.rsplit_once('/').and_then(|(_, name)| pool.get_message_by_name(name));
    let inner = inner.ok_or_else(|| S::Error::custom("the type of an Any is unknown"))?;
    let message = DynamicMessage::decode(inner.clone(), &*any.value).map_err(S::Error::custom)?;
    map.serialize_entry("@type", &any.type_url)?;
    if well_known::is_well_known(&inner) {
        map.serialize_entry("value", &MessageJson(&message))?;
    } else {
        serialize_fields(&message, &mut map)?;
    }
    map.end()
}

/// The value of a field, or of an element of a list or map.
#[derive(Clone, Copy)]
struct ValueJson<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            // Most JSON parsers read numbers as doubles, which cannot represent all 64-bit integers.
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F32(value) => serializer.serialize_str(non_finite_name((*value).into())),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F64(value) => serializer.serialize_str(non_finite_name(*value)),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD)),
            Value::EnumNumber(number) => serialize_enum(*number, self.kind, serializer),
            Value::Message(message) => MessageJson(message).serialize(serializer),
            Value::List(values) => serializer.collect_seq(values.iter().map(|value| ValueJson { value, ..*self })),
            Value::Map(values) => serialize_map(values, self.kind, serializer),
        }
    }
}

fn non_finite_name(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

/// Serializes an enum value as its name, or as its number if the name is unknown.
fn serialize_enum<S: Serializer>(number: i32, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        Kind::Enum(descriptor) if descriptor.full_name() == well_known::NULL_VALUE => serializer.serialize_none(),
        Kind::Enum(descriptor) => match descriptor.get_value(number) {
            Some(value) => serializer.serialize_str(value.name()),
            None => serializer.serialize_i32(number),
        },
        _ => serializer.serialize_i32(number),
    }
}

fn serialize_map<S: Serializer>(
    values: &HashMap<MapKey, Value>,
    kind: &Kind,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let entry = kind.as_message().expect("a map field is of a message type");
    let kind = entry.map_entry_value_field().kind();
    let sorted: BTreeMap<_, _> = values.iter().collect();
    serializer.collect_map(sorted.into_iter().map(|(key, value)| (key_text(key), ValueJson { value, kind: &kind })))
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
