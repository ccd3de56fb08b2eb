//! Timestamps. Most responses contain several of each resource, so they are written digit by digit: formatting them like
//! prost takes a quarter of the time of a list of tasks.

use std::ops::RangeInclusive;

use crate::codec::{
    json_buffer::{JsonBuffer, WriteError, WriteResult},
    wire::{MAX_DEPTH, Malformed, WireValue, next_field},
};

/// The times from year 1 to 9999, in seconds since 1970.
const SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;

/// Appends an encoded `google.protobuf.Timestamp`.
///
/// # Errors
/// If it is malformed or out of range.
pub fn write(json: &mut JsonBuffer, bytes: &[u8]) -> WriteResult {
    let (seconds, nanos) = decode(bytes)?;
    if !SECONDS.contains(&seconds) {
        return Err(WriteError::unrepresentable("a timestamp is out of range"));
    }
    match u32::try_from(nanos) {
        Ok(nanos @ 0..1_000_000_000) => push(json, seconds, nanos),
        _ => json.push_quoted(prost_types::Timestamp { seconds, nanos }),
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "varints of 32-bit types are truncated, and signed integers are encoded in two's complement"
)]
fn decode(mut bytes: &[u8]) -> Result<(i64, i32), Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, value)) = next_field(&mut bytes, MAX_DEPTH)? {
        match (number, value) {
            (1, WireValue::Varint(value)) => seconds = value as i64,
            (2, WireValue::Varint(value)) => nanos = value as i32,
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

/// Appends a time with the digits that it needs: none, milliseconds, microseconds or nanoseconds.
fn push(json: &mut JsonBuffer, seconds: i64, nanos: u32) {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (subseconds, width) = match nanos {
        0 => (0, 0),
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    let parts = [
        (b'"', year, 4),
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', second / 3600, 2),
        (b':', second / 60 % 60, 2),
        (b':', second % 60, 2),
        (b'.', subseconds.into(), width),
    ];
    for (separator, value, width) in parts {
        if width > 0 {
            push_digits(json, separator, value, width);
        }
    }
    json.push_text(b"Z\"");
}

/// Returns the year, month and day of a day since 1970. Years begin in March, so that leap days are at their end
/// (Howard Hinnant, `civil_from_days`).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let year = era * 400 + year_of_era + i64::from(is_next_year);
    (year, if is_next_year { month - 9 } else { month + 3 }, day)
}

/// Appends a separator, and the last digits of a number.
fn push_digits(json: &mut JsonBuffer, separator: u8, mut value: i64, width: usize) {
    let mut text = [separator; 10];
    for digit in text[1..=width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a digit is less than 10");
        value /= 10;
    }
    json.push_text(&text[..=width]);
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::Timestamp;

    use super::*;

    fn json(seconds: i64, nanos: i32) -> Option<String> {
        let mut json = JsonBuffer(Vec::new());
        write(&mut json, &Timestamp { seconds, nanos }.encode_to_vec()).ok()?;
        Some(String::from_utf8(json.0).expect("JSON is UTF-8"))
    }

    #[test]
    fn times_are_written_as_by_prost() {
        for (index, seconds) in SECONDS.step_by(29 * 86_400 - 7).enumerate() {
            let nanos = [0, 1, 999_999_999, 5_000, 120_000_000, -1, i32::MIN, i32::MAX][index % 8];
            let expected = format!("\"{}\"", Timestamp { seconds, nanos });
            assert_eq!(json(seconds, nanos), Some(expected));
        }
    }

    #[test]
    fn times_out_of_range_are_refused() {
        assert_eq!(json(*SECONDS.start(), 0).as_deref(), Some("\"0001-01-01T00:00:00Z\""));
        assert_eq!(json(*SECONDS.end(), 999_999_999).as_deref(), Some("\"9999-12-31T23:59:59.999999999Z\""));
        assert_eq!(json(SECONDS.start() - 1, 0), None);
        assert_eq!(json(SECONDS.end() + 1, 0), None);
    }
}
