//! Integers in the wire format.

use crate::codec::{types::Kind, wire::WireValue};

/// Decodes an integer. Returns `None` if the value has another type.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "varints of 32-bit types are truncated, and signed integers are encoded in two's complement"
)]
pub fn decode(kind: &Kind, value: WireValue<'_>) -> Option<i128> {
    Some(match (kind, value) {
        (Kind::Int32, WireValue::Varint(value)) => (value as i32).into(),
        (Kind::Sint32, WireValue::Varint(value)) => zigzag(u64::from(value as u32)).into(),
        (Kind::Sfixed32, WireValue::Fixed32(value)) => (value as i32).into(),
        (Kind::Uint32, WireValue::Varint(value)) => (value as u32).into(),
        (Kind::Fixed32, WireValue::Fixed32(value)) => value.into(),
        (Kind::Int64, WireValue::Varint(value)) | (Kind::Sfixed64, WireValue::Fixed64(value)) => (value as i64).into(),
        (Kind::Sint64, WireValue::Varint(value)) => zigzag(value).into(),
        (Kind::Uint64, WireValue::Varint(value)) | (Kind::Fixed64, WireValue::Fixed64(value)) => value.into(),
        _ => return None,
    })
}

/// Decodes the integers of `sint32` and `sint64`.
#[expect(clippy::cast_possible_wrap, reason = "the highest bit is clear")]
fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
