//! From a message to proto3 JSON. What has no value is left out if it could have none; all else is written, so that a
//! client sees every field that there is.
//!
//! prost-reflect writes most of the types that have a JSON form of their own, but not all of them right: a wrapped NaN
//! becomes `null`, and an empty `Any` an error. Maps come in the order of their keys here, so that an answer is the same
//! each time.

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
        let of = self.0.descriptor();
        if of.full_name() == well_known::ANY {
            return any(self.0, serializer);
        }
        if well_known::is_wrapper(&of) {
            let field = of.get_field(1).expect("a wrapper has one field");
            return ValueJson { value: &self.0.get_field(&field), kind: &field.kind() }.serialize(serializer);
        }
        if well_known::is(&of) {
            return self.0.serialize_with_options(serializer, &SerializeOptions::new());
        }
        let mut map = serializer.serialize_map(None)?;
        fields(self.0, &mut map)?;
        map.end()
    }
}

/// The JSON of a field of a message: `null` if it has none.
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

fn fields<M: SerializeMap>(message: &DynamicMessage, map: &mut M) -> Result<(), M::Error> {
    for field in message.descriptor().fields() {
        let json = FieldJson(message, &field);
        if !json.is_absent() {
            map.serialize_entry(field.json_name(), &json)?;
        }
    }
    Ok(())
}

/// The message in an `Any` and its type; nothing, if there is neither.
fn any<S: Serializer>(any: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let pool = any.descriptor().parent_pool().clone();
    let any: prost_types::Any = any.transcode_to().map_err(S::Error::custom)?;
    let mut map = serializer.serialize_map(None)?;
    if any == prost_types::Any::default() {
        return map.end();
    }
    let named = any.type_url.rsplit_once('/').and_then(|(_, name)| pool.get_message_by_name(name));
    let of = named.ok_or_else(|| S::Error::custom("the type in an Any is unknown"))?;
    let message = DynamicMessage::decode(of.clone(), &*any.value).map_err(S::Error::custom)?;
    map.serialize_entry("@type", &any.type_url)?;
    if well_known::is(&of) {
        map.serialize_entry("value", &MessageJson(&message))?;
    } else {
        fields(&message, &mut map)?;
    }
    map.end()
}

/// A value of a field, or one of those in a list or a map.
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
            // A number of JSON is a double to most who read it, which has no room for these.
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F32(value) => serializer.serialize_str(not_finite((*value).into())),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F64(value) => serializer.serialize_str(not_finite(*value)),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD)),
            Value::EnumNumber(number) => enum_name(*number, self.kind, serializer),
            Value::Message(message) => MessageJson(message).serialize(serializer),
            Value::List(values) => serializer.collect_seq(values.iter().map(|value| ValueJson { value, ..*self })),
            Value::Map(values) => map(values, self.kind, serializer),
        }
    }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

/// The name of a value of an enum, or its number if it has none.
fn enum_name<S: Serializer>(number: i32, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        Kind::Enum(of) if of.full_name() == well_known::NULL_VALUE => serializer.serialize_none(),
        Kind::Enum(of) => match of.get_value(number) {
            Some(value) => serializer.serialize_str(value.name()),
            None => serializer.serialize_i32(number),
        },
        _ => serializer.serialize_i32(number),
    }
}

fn map<S: Serializer>(values: &HashMap<MapKey, Value>, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
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
