//! Compares the JSON of encoded messages with that of decoded messages: for random messages of every type, with fields in
//! any order, repeated or unknown, and with malformed bytes.

use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, LazyLock},
};

use bytes::BufMut;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

use crate::codec::{
    message_writer::MessageWriter,
    reference::{FieldJson, MessageJson},
    types::Types,
};

/// The contract, and messages with all kinds of fields.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = protox::Compiler::new([root.join("tests/api/conformance"), root.join("../proto")]);
    let mut compiler = compiler.expect("the folders exist");
    compiler.include_imports(true).open_files(["conformance.proto", "closed.proto"]).expect("the files are valid");
    let mut pool = DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).expect("the files are valid");
    pool.decode_file_descriptor_set(taskey_proto::FILE_DESCRIPTOR_SET).expect("the contract is valid");
    pool
});

/// The types whose messages are compared: those of all responses, and as often one with all kinds of fields.
fn message_types() -> Vec<MessageDescriptor> {
    let all_kinds = POOL.get_message_by_name("test.conformance.v1.All").expect("the type exists");
    let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let mut types: Vec<_> = methods.map(|method| method.output()).collect();
    types.sort_by_key(|message| message.full_name().to_owned());
    types.dedup();
    let length = types.len();
    types.extend(std::iter::repeat_n(all_kinds, length));
    types
}

/// Returns the JSON of a message, or of one field of it. Asserts that it is that of the decoded message, and that a
/// message that can be decoded is not refused, unless `may_refuse`: prost-reflect accepts maps of any wire type.
fn compare(
    descriptor: &MessageDescriptor,
    field: Option<&FieldDescriptor>,
    encoded: &[u8],
    may_refuse: bool,
) -> Option<String> {
    let writer = MessageWriter::new(&TYPES, descriptor, field).expect("all types are prepared");
    let written = writer.to_json(encoded).ok().map(|json| String::from_utf8(json).expect("JSON is UTF-8"));
    let decoded = DynamicMessage::decode(descriptor.clone(), encoded).ok();
    let expected = decoded.and_then(|message| match field {
        Some(field) => serde_json::to_string(&FieldJson(&message, field)).ok(),
        None => serde_json::to_string(&MessageJson(&message)).ok(),
    });
    if written.is_some() || !may_refuse {
        assert_eq!(written, expected, "{} {encoded:02x?}", descriptor.full_name());
    }
    written
}

static TYPES: LazyLock<Arc<Types>> = LazyLock::new(|| Types::new(&POOL));

/// Calls `test` for random choices. Returns how many of the calls returned `true`.
fn count(cases: u32, test: impl Fn(&mut Choices<'_>) -> bool) -> u32 {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let count = Cell::new(0);
    let result = TestRunner::new(config).run(&vec(any::<u8>(), 0..600), |choices| {
        count.set(count.get() + u32::from(test(&mut Choices(choices.iter()))));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    count.get()
}

#[test]
fn encoded_and_decoded_messages_have_the_same_json() {
    let types = message_types();
    let written = count(4_000, |choices| {
        let descriptor = choices.pick(&types);
        let encoded = choices.message(descriptor, 0);
        compare(descriptor, None, &encoded, false).is_some()
    });
    assert!(written > 1_500, "only {written} of the messages can be written");
}

#[test]
fn one_field_of_encoded_and_decoded_messages_has_the_same_json() {
    let types = message_types();
    let written = count(1_500, |choices| {
        let descriptor = choices.pick(&types);
        let fields: Vec<_> = descriptor.fields().collect();
        let Some(field) = fields.get(choices.below(fields.len().max(1))) else { return false };
        let encoded = choices.message(descriptor, 0);
        compare(descriptor, Some(field), &encoded, false).is_some()
    });
    assert!(written > 600, "only {written} of the fields can be written");
}

#[test]
fn malformed_messages_are_refused_like_by_decoding() {
    let types = message_types();
    let refused = count(4_000, |choices| {
        let descriptor = choices.pick(&types);
        let mut encoded = choices.message(descriptor, 0);
        for _ in 0..=choices.below(3) {
            let index = usize::from(choices.next()) * 256 + usize::from(choices.next());
            let length = encoded.len().max(1);
            match (choices.below(2), encoded.get_mut(index % length)) {
                (0, Some(byte)) => *byte = choices.next(),
                _ => encoded.truncate(index % length),
            }
        }
        compare(descriptor, None, &encoded, true).is_none()
    });
    assert!(refused > 400, "only {refused} messages are refused");
}

#[test]
fn nesting_is_limited_like_by_decoding() {
    let all = POOL.get_message_by_name("test.conformance.v1.All").expect("the type exists");
    for (field, number) in [("items", 33), ("child", 60), ("choice_item", 63)] {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner, _| {
                let mut outer = Vec::new();
                put_bytes(&mut outer, number, &inner);
                outer
            })
        };
        assert!(compare(&all, None, &nested(100), false).is_some(), "{field}");
        assert_eq!(compare(&all, None, &nested(101), false), None, "{field}");
    }
    let any = POOL.get_message_by_name("google.protobuf.Any").expect("the type exists");
    let writer = MessageWriter::new(&TYPES, &any, None).expect("all types are prepared");
    let nested = |depth: usize| (0..depth).fold(Vec::new(), |inner, _| any_of("google.protobuf.Any", &inner));
    assert!(writer.to_json(&nested(100)).is_ok());
    assert!(writer.to_json(&nested(101)).is_err());
}

/// Choices for random messages.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next()) % limit
    }

    fn pick<'t, T>(&mut self, values: &'t [T]) -> &'t T {
        &values[self.below(values.len())]
    }

    /// Encodes a message with some fields, whose order is random and which may be repeated or unknown.
    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> Vec<u8> {
        if descriptor.full_name() == "google.protobuf.Any" && depth < 6 {
            return self.any(depth);
        }
        let fields: Vec<_> = descriptor.fields().collect();
        let (mut encoded, mut index) = (Vec::new(), 0);
        let length = if depth < 6 { self.below(12) } else { 0 };
        for _ in 0..length {
            // Often the same field or the next one, so that fields are in order or repeated.
            index = match self.next() % 8 {
                0..3 => index,
                3..6 => index + 1,
                6 => self.next().into(),
                _ => {
                    self.unknown_field(&mut encoded);
                    continue;
                }
            };
            if let Some(field) = fields.get(index % fields.len().max(1)) {
                self.field(field, depth, &mut encoded);
            }
        }
        encoded
    }

    fn any(&mut self, depth: usize) -> Vec<u8> {
        let names = ["test.conformance.v1.Closed", "google.protobuf.Value", "taskey.task.v1.Task", "unknown"];
        let name = *self.pick(&names[..]);
        let inner = POOL.get_message_by_name(name).map(|inner| self.message(&inner, depth + 1)).unwrap_or_default();
        if self.below(8) == 0 { Vec::new() } else { any_of(name, &inner) }
    }

    fn unknown_field(&mut self, encoded: &mut Vec<u8>) {
        let number = 1000 + u32::from(self.next());
        match self.below(3) {
            0 => put_bytes(encoded, number, &[0xff]),
            1 => put_varint(encoded, number, self.varint()),
            _ => {
                encode_key(number, WireType::StartGroup, encoded);
                put_varint(encoded, 1, 2);
                encode_key(number, WireType::EndGroup, encoded);
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize, encoded: &mut Vec<u8>) {
        let wire_type = match field.kind() {
            Kind::Message(_) if field.is_group() => WireType::StartGroup,
            Kind::Message(_) | Kind::String | Kind::Bytes => WireType::LengthDelimited,
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
            _ => WireType::Varint,
        };
        let is_packable = !matches!(wire_type, WireType::StartGroup | WireType::LengthDelimited);
        if field.is_list() && is_packable && self.below(2) == 0 {
            let mut packed = Vec::new();
            for _ in 0..self.below(4) {
                self.value(field, depth, &mut packed);
            }
            put_bytes(encoded, field.number(), &packed);
            return;
        }
        encode_key(field.number(), wire_type, encoded);
        self.value(field, depth, encoded);
        if wire_type == WireType::StartGroup {
            encode_key(field.number(), WireType::EndGroup, encoded);
        }
    }

    fn value(&mut self, field: &FieldDescriptor, depth: usize, encoded: &mut Vec<u8>) {
        match field.kind() {
            Kind::Message(message) if field.is_group() => encoded.extend(self.message(&message, depth + 1)),
            Kind::Message(message) => put_length_delimited(encoded, &self.message(&message, depth + 1)),
            Kind::String | Kind::Bytes => {
                let text = *self.pick(&["", "a", "b", "a_b.c_d", "\"\\\n\u{1f}\u{1f600}</", "1", "a_b,c", "aB"]);
                put_length_delimited(encoded, text.as_bytes());
            }
            Kind::Double => {
                encoded.put_f64_le(*self.pick(&[0.0, -0.0, 1.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]));
            }
            Kind::Float => encoded.put_f32_le(*self.pick(&[0.0, -0.0, 0.1, f32::NAN, f32::INFINITY, f32::MIN])),
            Kind::Fixed64 | Kind::Sfixed64 => encoded.put_u64_le(self.varint()),
            Kind::Fixed32 | Kind::Sfixed32 => encoded.put_u32_le(*self.pick(&[0, 1, 1 << 31, u32::MAX])),
            _ => encode_varint(self.varint(), encoded),
        }
    }

    fn varint(&mut self) -> u64 {
        let other = u64::from(self.next());
        *self.pick(&[0, 1, 2, 3, other, other << 8, 1_000_000_000, u32::MAX.into(), u64::MAX, u64::MAX << 31])
    }
}

fn any_of(name: &str, inner: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    put_bytes(&mut encoded, 1, format!("type.googleapis.com/{name}").as_bytes());
    put_bytes(&mut encoded, 2, inner);
    encoded
}

fn put_bytes(encoded: &mut Vec<u8>, number: u32, value: &[u8]) {
    encode_key(number, WireType::LengthDelimited, encoded);
    put_length_delimited(encoded, value);
}

fn put_length_delimited(encoded: &mut Vec<u8>, value: &[u8]) {
    encode_varint(value.len() as u64, encoded);
    encoded.extend_from_slice(value);
}

fn put_varint(encoded: &mut Vec<u8>, number: u32, value: u64) {
    encode_key(number, WireType::Varint, encoded);
    encode_varint(value, encoded);
}
