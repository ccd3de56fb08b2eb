//! Parses scalars and enums from proto3 JSON, and from the text of paths and queries.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{EnumDescriptor, Kind, Syntax, Value};
use serde_json::Number;

use crate::codec::{json::Json, violation::FieldViolation};

/// Parses a scalar or an enum from JSON.
///
/// # Errors
/// If it is not a value of this kind, or if the kind is a message.
pub fn from_json(kind: &Kind, json: &Json) -> Result<Value, FieldViolation> {
    let value = match (kind, json) {
        (Kind::Bool, Json::Bool(value)) => Some(Value::Bool(*value)),
        (Kind::String, Json::String(text)) => Some(Value::String(text.clone())),
        (Kind::Bytes, Json::String(text)) => decode_base64(text).map(|bytes| Value::Bytes(bytes.into())),
        (Kind::Enum(kind), json) => return enum_number(kind, json).map(Value::EnumNumber),
        (Kind::Float, json) => float(json).and_then(to_f32).map(Value::F32),
        (Kind::Double, json) => float(json).map(Value::F64),
        (kind, json) => integer(json).and_then(|integer| integer_value(kind, integer)),
    };
    value.ok_or_else(|| FieldViolation::new(expectation(kind)))
}

/// Parses a scalar or an enum from a path or a query.
///
/// # Errors
/// If it is not a value of this kind.
pub fn from_text(kind: &Kind, text: &str) -> Result<Value, FieldViolation> {
    match (kind, text) {
        (Kind::Bool, "true") => Ok(Value::Bool(true)),
        (Kind::Bool, "false") => Ok(Value::Bool(false)),
        (Kind::Enum(descriptor), text) if descriptor.get_value_by_name(text).is_none() => match parse_number(text) {
            Some(number) => from_json(kind, &Json::Number(number)),
            None => Err(FieldViolation::new(UNKNOWN_ENUM_VALUE)),
        },
        _ => from_json(kind, &Json::String(text.to_owned())),
    }
}

const UNKNOWN_ENUM_VALUE: &str = "must be the name or number of an enum value";

fn expectation(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "must be true or false",
        Kind::String => "must be a string",
        Kind::Bytes => "must be a base64 string",
        Kind::Float | Kind::Double => "must be a number in the range of its type",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a 32-bit integer",
        Kind::Uint32 | Kind::Fixed32 => "must be an unsigned 32-bit integer",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be a 64-bit integer",
        Kind::Uint64 | Kind::Fixed64 => "must be an unsigned 64-bit integer",
        Kind::Enum(_) => UNKNOWN_ENUM_VALUE,
        Kind::Message(_) => "must be an object",
    }
}

/// Parses an enum value. Proto3 enums are open: an unknown number may come from a newer contract, so the service
/// decides whether it is valid. An unknown name is refused, since its number is unknown.
fn enum_number(descriptor: &EnumDescriptor, json: &Json) -> Result<i32, FieldViolation> {
    let number = match json {
        Json::String(name) => descriptor.get_value_by_name(name).map(|value| value.number()),
        json => integer(json).and_then(|number| i32::try_from(number).ok()),
    };
    let is_open = descriptor.parent_file().syntax() == Syntax::Proto3;
    let valid = number.filter(|number| is_open || descriptor.get_value(*number).is_some());
    valid.ok_or_else(|| FieldViolation::new(UNKNOWN_ENUM_VALUE))
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

/// Parses an integer from a JSON number or a string that contains one, including `1e3` and `1.0`.
fn integer(json: &Json) -> Option<i128> {
    let exact = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match json {
        Json::Number(number) => exact(number).or_else(|| to_integer(number.as_f64()?)),
        Json::String(text) => {
            let number = parse_number(text)?;
            exact(&number).or_else(|| to_integer(number.as_f64()?))
        }
        _ => None,
    }
}

/// Converts a double without a fraction to an integer. A number outside of the range of 64 bits is parsed as a
/// double. `i64::MIN` as a double is refused, since a smaller integer such as -9223372036854775809 is rounded to it;
/// `i64::MIN` in digits is parsed exactly and does not get here.
fn to_integer(number: f64) -> Option<i128> {
    const I64_MIN: f64 = -9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of floats saturates, and what is saturated fits nothing"
    )]
    (number.is_finite() && number.fract() == 0.0 && number > I64_MIN).then_some(number as i128)
}

fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => Number::as_f64(number),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => parse_number(text)?.as_f64(),
        },
        _ => None,
    }
}

fn to_f32(number: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "what is too large becomes infinite and is refused")]
    let narrowed = number as f32;
    (narrowed.is_finite() || !number.is_finite()).then_some(narrowed)
}

/// Parses a number in a string. It must follow the grammar of JSON numbers: no spaces, plus sign, leading zeros or
/// trailing decimal point.
fn parse_number(text: &str) -> Option<Number> {
    let is_trimmed =
        text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && !text.ends_with(char::is_whitespace);
    is_trimmed.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Decodes base64 in either alphabet of RFC 4648, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
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
    fn doubles_are_parsed_to_the_nearest_value() {
        for text in ["1.0000000000097455e300", "0.1", "5e-324", "1.7976931348623157e308", "9007199254740993.0"] {
            assert_eq!(read(&Kind::Double, text), text.parse().ok().map(Value::F64), "{text}");
        }
    }

    #[test]
    fn integers_are_numbers_or_strings_without_a_fraction() {
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
    fn integers_out_of_range_are_refused() {
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
    fn special_float_values_require_their_exact_names() {
        assert_eq!(read(&Kind::Double, "\"-Infinity\""), Some(Value::F64(f64::NEG_INFINITY)));
        assert_eq!(read(&Kind::Double, "\"1.5\""), Some(Value::F64(1.5)));
        for text in ["\"inf\"", "\"nan\"", "\"\"", "\"1e999\"", "\"infinity\""] {
            assert_eq!(read(&Kind::Double, text), None, "{text}");
        }
        assert_eq!(read(&Kind::Float, "1e39"), None);
    }

    #[test]
    fn bytes_accept_both_base64_alphabets_with_or_without_padding() {
        for text in ["\"+/8=\"", "\"+/8\"", "\"-_8=\"", "\"-_8\""] {
            assert_eq!(read(&Kind::Bytes, text), Some(Value::Bytes(vec![0xfb, 0xff].into())), "{text}");
        }
        for text in ["\"+_8\"", "\"a\"", "\"ä\"", "7"] {
            assert_eq!(read(&Kind::Bytes, text), None, "{text}");
        }
    }

    #[test]
    fn booleans_are_strings_in_text_but_not_in_json() {
        assert_eq!(read(&Kind::Bool, "\"true\""), None);
        assert_eq!(from_text(&Kind::Bool, "true"), Ok(Value::Bool(true)));
        assert!(from_text(&Kind::Bool, "1").is_err());
        assert!(from_text(&Kind::Bool, "").is_err());
    }
}
