//! Scalars and enums in proto3 JSON, and in the text of paths and queries.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{EnumDescriptor, Kind, Syntax, Value};
use serde_json::Number;

use crate::codec::{json::Json, violation::FieldViolation};

/// Reads the JSON of a scalar or an enum. A message is none.
///
/// # Errors
/// If it is not the JSON of such a value.
pub fn from_json(kind: &Kind, json: &Json) -> Result<Value, FieldViolation> {
    let value = match (kind, json) {
        (Kind::Bool, Json::Bool(value)) => Some(Value::Bool(*value)),
        (Kind::String, Json::String(text)) => Some(Value::String(text.clone())),
        (Kind::Bytes, Json::String(text)) => bytes(text).map(|bytes| Value::Bytes(bytes.into())),
        (Kind::Enum(kind), json) => return enum_number(kind, json).map(Value::EnumNumber),
        (Kind::Float, json) => float(json).and_then(narrow).map(Value::F32),
        (Kind::Double, json) => float(json).map(Value::F64),
        (kind, json) => integer(json).and_then(|integer| integer_value(kind, integer)),
    };
    value.ok_or_else(|| FieldViolation::new(expectation(kind)))
}

/// Parses a scalar or an enum in a path or a query.
///
/// # Errors
/// If it is not the text of such a value.
pub fn from_text(kind: &Kind, text: &str) -> Result<Value, FieldViolation> {
    match (kind, text) {
        (Kind::Bool, "true") => Ok(Value::Bool(true)),
        (Kind::Bool, "false") => Ok(Value::Bool(false)),
        (Kind::Enum(of), text) if of.get_value_by_name(text).is_none() => match number(text) {
            Some(number) => from_json(kind, &Json::Number(number)),
            None => Err(FieldViolation::new(UNKNOWN_ENUM_VALUE)),
        },
        _ => from_json(kind, &Json::String(text.to_owned())),
    }
}

const UNKNOWN_ENUM_VALUE: &str = "must be the name or the number of a value of its enum";

fn expectation(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "must be true or false",
        Kind::String => "must be a string",
        Kind::Bytes => "must be a string in base64",
        Kind::Float | Kind::Double => "must be a number in its range",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be an integer of 32 bits",
        Kind::Uint32 | Kind::Fixed32 => "must be an unsigned integer of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be an integer of 64 bits",
        Kind::Uint64 | Kind::Fixed64 => "must be an unsigned integer of 64 bits",
        Kind::Enum(_) => UNKNOWN_ENUM_VALUE,
        Kind::Message(_) => "must be an object",
    }
}

/// The enums of proto3 are open: a number without a name may come from a newer contract, and whether it is of use the
/// service must say. A name that is unknown has no number.
fn enum_number(kind: &EnumDescriptor, json: &Json) -> Result<i32, FieldViolation> {
    let number = match json {
        Json::String(name) => kind.get_value_by_name(name).map(|value| value.number()),
        json => integer(json).and_then(|number| i32::try_from(number).ok()),
    };
    let is_open = kind.parent_file().syntax() == Syntax::Proto3;
    let known = number.filter(|number| is_open || kind.get_value(*number).is_some());
    known.ok_or_else(|| FieldViolation::new(UNKNOWN_ENUM_VALUE))
}

fn integer_value(kind: &Kind, integer: i128) -> Option<Value> {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer.try_into().ok().map(Value::I32),
        Kind::Uint32 | Kind::Fixed32 => integer.try_into().ok().map(Value::U32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer.try_into().ok().map(Value::I64),
        Kind::Uint64 | Kind::Fixed64 => integer.try_into().ok().map(Value::U64),
        _ => None,
    }
}

/// An integer may be written as a number, even as `1e3` or `1.0`, or as a string that holds one.
fn integer(json: &Json) -> Option<i128> {
    let exact = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match json {
        Json::Number(number) => exact(number).or_else(|| whole(number.as_f64()?)),
        Json::String(text) => {
            let number = number(text)?;
            exact(&number).or_else(|| whole(number.as_f64()?))
        }
        _ => None,
    }
}

/// The integer that a double is. What is beyond 64 bits comes as a double, too, and the smallest of them would be taken
/// for the smallest integer, of which its digits say something else.
fn whole(number: f64) -> Option<i128> {
    const SMALLEST: f64 = -9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of floats saturates, and what is saturated fits nothing"
    )]
    (number.is_finite() && number.fract() == 0.0 && number > SMALLEST).then_some(number as i128)
}

fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => Number::as_f64(number),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => number(text)?.as_f64(),
        },
        _ => None,
    }
}

fn narrow(number: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "what is too large becomes infinite and is refused")]
    let narrow = number as f32;
    (narrow.is_finite() || !number.is_finite()).then_some(narrow)
}

/// The number that a string holds. It is written as JSON writes it, so there is one grammar of numbers: without spaces,
/// a plus, leading zeros or a bare point.
fn number(text: &str) -> Option<Number> {
    let is_bare =
        text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && !text.ends_with(char::is_whitespace);
    is_bare.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Both alphabets of RFC 4648, with padding or without.
fn bytes(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &Kind, text: &str) -> Option<Value> {
        from_json(kind, &serde_json::from_str(text).expect("the text is JSON")).ok()
    }

    #[test]
    fn a_double_is_the_nearest_one() {
        for text in ["1.0000000000097455e300", "0.1", "5e-324", "1.7976931348623157e308", "9007199254740993.0"] {
            assert_eq!(read(&Kind::Double, text), text.parse().ok().map(Value::F64), "{text}");
        }
    }

    #[test]
    fn integers_are_numbers_or_strings_and_whole() {
        for text in ["3", "3.0", "3e0", "\"3\"", "\"3.0\"", "\"0.3e1\""] {
            assert_eq!(read(&Kind::Int32, text), Some(Value::I32(3)), "{text}");
        }
        for text in [
            "3.5", "true", "\"\"", "\" 3\"", "\"+3\"", "\"0x3\"", "\"inf\"", "[3]", "null", "\"3 \"", "\"03\"",
            "\"3.\"",
        ] {
            assert_eq!(read(&Kind::Int32, text), None, "{text}");
        }
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(read(&Kind::Int32, "2147483648"), None);
        assert_eq!(read(&Kind::Uint32, "-1"), None);
        assert_eq!(read(&Kind::Int64, "\"9223372036854775807\""), Some(Value::I64(i64::MAX)));
        assert_eq!(read(&Kind::Int64, "-9223372036854775808"), Some(Value::I64(i64::MIN)));
        assert_eq!(read(&Kind::Int64, "-9223372036854775809"), None);
        assert_eq!(read(&Kind::Int64, "1e300"), None);
        assert_eq!(read(&Kind::Uint64, "18446744073709551615"), Some(Value::U64(u64::MAX)));
        assert_eq!(read(&Kind::Uint64, "\"18446744073709551616\""), None);
    }

    #[test]
    fn floats_know_their_special_values_by_name_alone() {
        assert_eq!(read(&Kind::Double, "\"-Infinity\""), Some(Value::F64(f64::NEG_INFINITY)));
        assert_eq!(read(&Kind::Double, "\"1.5\""), Some(Value::F64(1.5)));
        for text in ["\"inf\"", "\"nan\"", "\"\"", "\"1e999\"", "\"infinity\""] {
            assert_eq!(read(&Kind::Double, text), None, "{text}");
        }
        assert_eq!(read(&Kind::Float, "1e39"), None);
    }

    #[test]
    fn bytes_come_in_both_alphabets_with_padding_or_without() {
        for text in ["\"+/8=\"", "\"+/8\"", "\"-_8=\"", "\"-_8\""] {
            assert_eq!(read(&Kind::Bytes, text), Some(Value::Bytes(vec![0xfb, 0xff].into())), "{text}");
        }
        for text in ["\"+_8\"", "\"a\"", "\"ä\"", "7"] {
            assert_eq!(read(&Kind::Bytes, text), None, "{text}");
        }
    }

    #[test]
    fn a_string_is_no_boolean_in_json_and_one_in_text() {
        assert_eq!(read(&Kind::Bool, "\"true\""), None);
        assert_eq!(from_text(&Kind::Bool, "true"), Ok(Value::Bool(true)));
        assert!(from_text(&Kind::Bool, "1").is_err());
        assert!(from_text(&Kind::Bool, "").is_err());
    }
}
