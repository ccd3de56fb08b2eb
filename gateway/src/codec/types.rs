//! The message types, prepared for conversion to JSON: what depends only on the descriptors is computed once.

use std::{collections::HashMap, sync::Arc};

use prost::encoding::WireType;
use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

use crate::codec::well_known;

/// All message types of a descriptor pool.
#[derive(Debug)]
pub struct Types {
    messages: Vec<MessageType>,
    indexes: HashMap<String, MessageIndex>,
}

/// The position of a message type in [`Types`]. Messages may contain themselves, so types cannot own each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageIndex(usize);

/// A message type.
#[derive(Debug)]
pub struct MessageType {
    /// How its messages are written.
    pub mapping: Mapping,
    /// Whether it has its own JSON mapping.
    pub is_well_known: bool,
    /// Its fields, in the order of their numbers.
    pub fields: Vec<Field>,
    /// The number of its oneofs.
    pub oneofs: usize,
}

/// How the messages of a type are written.
#[derive(Debug)]
pub enum Mapping {
    /// As an object with all fields.
    Object,
    /// As the value of the first field: `Struct`, `ListValue` and wrappers such as `StringValue`.
    FirstField,
    /// As the value of the field that is set, or `null`: `google.protobuf.Value`.
    Value,
    /// As an object with the fields of the message inside: `google.protobuf.Any`.
    Any,
    /// As a time: `google.protobuf.Timestamp`.
    Timestamp,
    /// By prost-reflect.
    ProstReflect(MessageDescriptor),
}

/// A field of a message type.
#[derive(Debug)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name in JSON, with quotes and a colon.
    pub name: Vec<u8>,
    /// The type of its values. Maps have the type of their entries.
    pub kind: Kind,
    /// How many values it has.
    pub label: Label,
    /// Whether it can be absent. Absent fields are not written.
    pub has_presence: bool,
    /// The JSON of its default. Messages have none.
    pub default: Vec<u8>,
    /// The oneof that contains it, unless that has no other fields: `optional` fields are in oneofs of their own.
    pub oneof: Option<usize>,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// At most one.
    Singular,
    /// Any number.
    List,
    /// One for each key.
    Map,
}

/// The type of a value.
#[derive(Debug)]
pub enum Kind {
    /// A boolean.
    Bool,
    /// `int32`
    Int32,
    /// `sint32`
    Sint32,
    /// `sfixed32`
    Sfixed32,
    /// `uint32`
    Uint32,
    /// `fixed32`
    Fixed32,
    /// `int64`
    Int64,
    /// `sint64`
    Sint64,
    /// `sfixed64`
    Sfixed64,
    /// `uint64`
    Uint64,
    /// `fixed64`
    Fixed64,
    /// A float, which may be infinite or NaN.
    Float,
    /// A double, which may be infinite or NaN.
    Double,
    /// A double of `google.protobuf.Value`, which must be finite.
    FiniteDouble,
    /// A string.
    String,
    /// Bytes.
    Bytes,
    /// `google.protobuf.NullValue`
    Null,
    /// Another enum.
    Enum(EnumType),
    /// A message.
    Message(MessageIndex),
    /// A message between two tags.
    Group(MessageIndex),
}

/// The values of an enum and their names with quotes, in the order of their numbers.
#[derive(Debug)]
pub struct EnumType(Vec<(i32, Vec<u8>)>);

impl Types {
    /// Prepares the types in `pool`.
    #[must_use]
    pub fn new(pool: &DescriptorPool) -> Arc<Self> {
        let names = pool.all_messages().map(|message| message.full_name().to_owned());
        let indexes = names.enumerate().map(|(index, name)| (name, MessageIndex(index))).collect();
        let messages = pool.all_messages().map(|message| MessageType::new(&message, &indexes)).collect();
        Arc::new(Self { messages, indexes })
    }

    /// Finds a message type by its full name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<MessageIndex> {
        self.indexes.get(name).copied()
    }

    /// Returns a message type.
    #[must_use]
    pub fn get(&self, index: MessageIndex) -> &MessageType {
        &self.messages[index.0]
    }
}

impl MessageType {
    fn new(descriptor: &MessageDescriptor, indexes: &HashMap<String, MessageIndex>) -> Self {
        Self {
            mapping: Mapping::new(descriptor),
            is_well_known: well_known::is_well_known(descriptor),
            fields: descriptor.fields().map(|field| Field::new(&field, indexes)).collect(),
            oneofs: descriptor.oneofs().len(),
        }
    }

    /// Returns the position of a field in `fields`. It is found fastest at `expected`.
    #[must_use]
    pub fn position(&self, number: u32, expected: usize) -> Option<usize> {
        match self.fields.get(expected) {
            Some(field) if field.number == number => Some(expected),
            _ => self.fields.binary_search_by_key(&number, |field| field.number).ok(),
        }
    }
}

impl Mapping {
    fn new(descriptor: &MessageDescriptor) -> Self {
        match descriptor.full_name() {
            well_known::ANY => Self::Any,
            VALUE => Self::Value,
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Struct" | "google.protobuf.ListValue" => Self::FirstField,
            "google.protobuf.Empty" => Self::Object,
            _ if well_known::is_wrapper(descriptor) => Self::FirstField,
            _ if well_known::is_well_known(descriptor) => Self::ProstReflect(descriptor.clone()),
            _ => Self::Object,
        }
    }
}

const VALUE: &str = "google.protobuf.Value";

impl Field {
    fn new(descriptor: &FieldDescriptor, indexes: &HashMap<String, MessageIndex>) -> Self {
        let kind = Kind::new(descriptor, indexes);
        let label = match descriptor.cardinality() {
            _ if descriptor.is_map() => Label::Map,
            Cardinality::Repeated => Label::List,
            Cardinality::Optional | Cardinality::Required => Label::Singular,
        };
        let default = match label {
            Label::Singular => default_json(descriptor, &kind),
            Label::List => b"[]".to_vec(),
            Label::Map => b"{}".to_vec(),
        };
        let mut name = json_string(descriptor.json_name());
        name.push(b':');
        let message = descriptor.parent_message();
        let oneof = descriptor.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        Self {
            number: descriptor.number(),
            name,
            kind,
            label,
            has_presence: descriptor.supports_presence(),
            default,
            oneof: oneof.and_then(|oneof| message.oneofs().position(|other| other == oneof)),
        }
    }
}

impl Kind {
    fn new(descriptor: &FieldDescriptor, indexes: &HashMap<String, MessageIndex>) -> Self {
        use prost_reflect::Kind;
        match descriptor.kind() {
            Kind::Bool => Self::Bool,
            Kind::Int32 => Self::Int32,
            Kind::Sint32 => Self::Sint32,
            Kind::Sfixed32 => Self::Sfixed32,
            Kind::Uint32 => Self::Uint32,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Int64 => Self::Int64,
            Kind::Sint64 => Self::Sint64,
            Kind::Sfixed64 => Self::Sfixed64,
            Kind::Uint64 => Self::Uint64,
            Kind::Fixed64 => Self::Fixed64,
            Kind::Float => Self::Float,
            Kind::Double if descriptor.parent_message().full_name() == VALUE => Self::FiniteDouble,
            Kind::Double => Self::Double,
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(kind) if kind.full_name() == well_known::NULL_VALUE => Self::Null,
            Kind::Enum(kind) => Self::Enum(EnumType::new(&kind)),
            Kind::Message(message) if descriptor.is_group() => Self::Group(indexes[message.full_name()]),
            Kind::Message(message) => Self::Message(indexes[message.full_name()]),
        }
    }

    /// Reports whether it is an integer type of 64 bits.
    #[must_use]
    pub fn is_64_bit_integer(&self) -> bool {
        matches!(self, Self::Int64 | Self::Sint64 | Self::Sfixed64 | Self::Uint64 | Self::Fixed64)
    }

    /// Returns the wire type of the values in a packed list. Returns `None` if they cannot be packed.
    #[must_use]
    pub fn packed_wire_type(&self) -> Option<WireType> {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Sint32
            | Self::Uint32
            | Self::Int64
            | Self::Sint64
            | Self::Uint64
            | Self::Null
            | Self::Enum(_) => Some(WireType::Varint),
            Self::Fixed32 | Self::Sfixed32 | Self::Float => Some(WireType::ThirtyTwoBit),
            Self::Fixed64 | Self::Sfixed64 | Self::Double | Self::FiniteDouble => Some(WireType::SixtyFourBit),
            Self::String | Self::Bytes | Self::Message(_) | Self::Group(_) => None,
        }
    }
}

impl EnumType {
    fn new(descriptor: &EnumDescriptor) -> Self {
        let mut numbers: Vec<_> = descriptor.values().map(|value| value.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let values = numbers.into_iter().filter_map(|number| descriptor.get_value(number));
        Self(values.map(|value| (value.number(), json_string(value.name()))).collect())
    }

    /// Returns the name of a value, with quotes.
    #[must_use]
    pub fn name(&self, number: i32) -> Option<&[u8]> {
        let index = self.0.binary_search_by_key(&number, |(other, _)| *other).ok()?;
        Some(&self.0[index].1)
    }
}

/// Returns the JSON of the default of a singular field. Messages have no default.
fn default_json(descriptor: &FieldDescriptor, kind: &Kind) -> Vec<u8> {
    let text = match kind {
        Kind::Bool => "false",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => "0",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => "\"0\"",
        Kind::Float | Kind::Double | Kind::FiniteDouble => "0.0",
        Kind::String | Kind::Bytes => "\"\"",
        Kind::Enum(_) => {
            let kind = descriptor.kind();
            let name = kind.as_enum().map(|kind| json_string(kind.default_value().name()));
            return name.unwrap_or_default();
        }
        Kind::Null | Kind::Message(_) | Kind::Group(_) => "null",
    };
    text.into()
}

fn json_string(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string can be serialized")
}
