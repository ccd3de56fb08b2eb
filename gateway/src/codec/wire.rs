//! The wire format of Protocol Buffers.

use bytes::Bytes;
use prost::{
    DecodeError,
    encoding::{WireType, decode_key, decode_varint},
};
use thiserror::Error;

/// The encoded value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WireValue<'a> {
    /// An integer, boolean or enum value.
    Varint(u64),
    /// A number of 32 bits.
    Fixed32(u32),
    /// A number of 64 bits.
    Fixed64(u64),
    /// A string, bytes, a message, or the values of a packed list.
    Bytes(&'a [u8]),
    /// A message between two tags, as in proto2.
    Group(&'a [u8]),
}

/// The error for bytes that are not the encoding of a message.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("the message is malformed")]
pub struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// Reads the number and the value of the next field. Returns `None` at the end.
///
/// # Errors
/// If the bytes are malformed, or if they contain groups nested deeper than `depth`.
pub fn next_field<'a>(bytes: &mut &'a [u8], depth: usize) -> Result<Option<(u32, WireValue<'a>)>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (number, wire_type) = decode_key(bytes)?;
    let value = match wire_type {
        WireType::StartGroup => WireValue::Group(read_group(bytes, number, depth)?),
        wire_type => read_value(bytes, wire_type)?,
    };
    Ok(Some((number, value)))
}

/// Reads a value that is not a group.
///
/// # Errors
/// If the bytes are malformed.
pub fn read_value<'a>(bytes: &mut &'a [u8], wire_type: WireType) -> Result<WireValue<'a>, Malformed> {
    Ok(match wire_type {
        WireType::Varint => WireValue::Varint(decode_varint(bytes)?),
        WireType::ThirtyTwoBit => WireValue::Fixed32(u32::from_le_bytes(read_array(bytes)?)),
        WireType::SixtyFourBit => WireValue::Fixed64(u64::from_le_bytes(read_array(bytes)?)),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes)?).map_err(|_| Malformed)?;
            WireValue::Bytes(bytes.split_off(..length).ok_or(Malformed)?)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
    })
}

fn read_array<const LENGTH: usize>(bytes: &mut &[u8]) -> Result<[u8; LENGTH], Malformed> {
    let (array, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*array)
}

/// Reads the fields of a group, up to and including its end tag. Returns the fields.
fn read_group<'a>(bytes: &mut &'a [u8], number: u32, depth: usize) -> Result<&'a [u8], Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let start = *bytes;
    loop {
        let length = start.len() - bytes.len();
        match decode_key(bytes)? {
            (end, WireType::EndGroup) if end == number => return Ok(&start[..length]),
            (inner, WireType::StartGroup) => _ = read_group(bytes, inner, depth)?,
            (_, wire_type) => _ = read_value(bytes, wire_type)?,
        }
    }
}

/// Returns the value of a string field. Returns `None` if it is not set, or if the bytes are malformed.
#[must_use]
pub fn string_field(bytes: &[u8], number: u32) -> Option<&str> {
    std::str::from_utf8(last_value(bytes, number)?).ok()
}

/// Returns the value of a field of bytes. Returns `None` if it is not set, or if the message is malformed.
#[must_use]
pub fn bytes_field(message: &Bytes, number: u32) -> Option<Bytes> {
    last_value(message, number).map(|value| message.slice_ref(value))
}

/// Returns the last value of a field that is a string or bytes.
fn last_value(mut bytes: &[u8], number: u32) -> Option<&[u8]> {
    let mut last = None;
    while let Some((other, value)) = next_field(&mut bytes, MAX_DEPTH).ok()? {
        match value {
            WireValue::Bytes(value) if other == number => last = Some(value),
            _ => {}
        }
    }
    last
}

/// Maximum nesting depth of messages and groups. The limit of prost, so that the gateway accepts what services accept.
pub const MAX_DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all fields.
    fn read(mut bytes: &[u8]) -> Result<Vec<(u32, WireValue<'_>)>, Malformed> {
        std::iter::from_fn(|| next_field(&mut bytes, 2).transpose()).collect()
    }

    #[test]
    fn fields_of_all_wire_types_are_read() {
        let bytes =
            [0x08, 0x96, 0x01, 0x15, 1, 0, 0, 0, 0x19, 2, 0, 0, 0, 0, 0, 0, 0, 0x22, 1, b'x', 0x2b, 0x08, 3, 0x2c];
        let expected = [
            (1, WireValue::Varint(150)),
            (2, WireValue::Fixed32(1)),
            (3, WireValue::Fixed64(2)),
            (4, WireValue::Bytes(b"x")),
            (5, WireValue::Group(&[0x08, 3])),
        ];
        assert_eq!(read(&bytes), Ok(expected.to_vec()));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [
            &[0x00, 1][..],                        // The field number is 0.
            &[0x0e, 1],                            // The wire type is unknown.
            &[0x08],                               // The value is missing.
            &[0x08, 0x80],                         // The varint does not end.
            &[0x15, 1, 0, 0],                      // A byte of the number is missing.
            &[0x22, 2, b'x'],                      // A byte of the string is missing.
            &[0x2b, 0x08, 3],                      // The group does not end.
            &[0x2b, 0x34],                         // Another group ends.
            &[0x2c],                               // No group has begun.
            &[0x0b, 0x0b, 0x0b, 0x0c, 0x0c, 0x0c], // Groups are nested too deeply.
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(read(&[0x0b, 0x0b, 0x0c, 0x0c]), Ok(vec![(1, WireValue::Group(&[0x0b, 0x0c]))]));
    }

    #[test]
    fn last_value_of_a_string_field_counts() {
        assert_eq!(string_field(&[0x0a, 1, b'a', 0x12, 1, b'b', 0x0a, 1, b'c'], 1), Some("c"));
        assert_eq!(string_field(&[0x12, 1, b'b'], 1), None);
        assert_eq!(string_field(&[0x0a, 1, 0xff], 1), None);
    }
}
