//! The fields of an encoded message, in the order of their numbers.

use std::ops::Range;

use crate::codec::{
    types::{Kind, Label, MessageType},
    wire::{Malformed, WireValue, next_field},
};

/// A value of a known field.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The position of the field in [`MessageType::fields`].
    pub field: usize,
    /// The value.
    pub value: WireValue<'a>,
}

/// The records of the messages that are being written: those of a message follow those of the message that contains it.
pub type Records<'a> = Vec<Record<'a>>;

/// Appends the known fields of a message to `records`, in the order of their numbers. Returns the fields that are
/// cleared, because another field of their oneof follows.
///
/// # Errors
/// If the bytes are malformed, or if they contain groups nested deeper than `depth`.
pub fn read<'a>(
    message: &MessageType,
    mut bytes: &'a [u8],
    depth: usize,
    records: &mut Records<'a>,
) -> Result<Vec<Record<'a>>, Malformed> {
    let start = records.len();
    // The first field that may follow, if the fields are in order and none is repeated.
    let mut next = 0;
    let mut oneofs = 0_u64;
    let mut is_regular = true;
    while let Some((number, value)) = next_field(&mut bytes, depth)? {
        let Some(position) = message.position(number, next) else { continue };
        let field = &message.fields[position];
        is_regular &= position >= next;
        if let Some(oneof) = field.oneof {
            // Fields of further oneofs are never regular.
            let bit = u32::try_from(oneof).ok().and_then(|oneof| 1_u64.checked_shl(oneof)).unwrap_or(u64::MAX);
            is_regular &= oneofs & bit == 0;
            oneofs |= bit;
        }
        next = if field.label == Label::Singular { position + 1 } else { position };
        records.push(Record { field: position, value });
    }
    Ok(if is_regular { Vec::new() } else { sort(message, records, start) })
}

/// Sorts the records from `start` by field. Removes and returns those that are cleared by another field of their oneof.
fn sort<'a>(message: &MessageType, records: &mut Records<'a>, start: usize) -> Vec<Record<'a>> {
    // For each oneof, the field that is set last, and whether no other field of the oneof was between.
    let mut last_fields = vec![None; message.oneofs];
    let (mut kept, mut cleared) = (Vec::new(), Vec::new());
    for record in records.drain(start..).rev() {
        let is_kept = message.fields[record.field].oneof.is_none_or(|oneof| {
            let (field, is_open) = last_fields[oneof].get_or_insert((record.field, true));
            *is_open &= *field == record.field;
            *is_open
        });
        if is_kept { &mut kept } else { &mut cleared }.push(record);
    }
    kept.reverse();
    kept.sort_by_key(|record| record.field);
    records.append(&mut kept);
    cleared
}

/// Returns the records of `field` at the start of `range`.
pub fn run(records: &Records<'_>, range: Range<usize>, field: usize) -> Range<usize> {
    let length = records[range.clone()].iter().take_while(|record| record.field == field).count();
    range.start..range.start + length
}

/// Concatenates the encodings of a message, whose fields are then merged.
///
/// # Errors
/// If a value is malformed or not a message, or if it contains groups nested deeper than `depth`.
pub fn merge(kind: &Kind, records: &[Record<'_>], depth: usize) -> Result<Vec<u8>, Malformed> {
    let mut merged = Vec::new();
    for record in records {
        let ((Kind::Message(_), WireValue::Bytes(bytes)) | (Kind::Group(_), WireValue::Group(bytes))) =
            (kind, record.value)
        else {
            return Err(Malformed);
        };
        // A field must not continue in the next encoding.
        let mut rest = bytes;
        while next_field(&mut rest, depth)?.is_some() {}
        merged.extend_from_slice(bytes);
    }
    Ok(merged)
}
