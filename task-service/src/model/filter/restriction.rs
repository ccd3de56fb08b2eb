//! Converts restrictions of AIP-160 (a field, a comparator and a value) to conditions.

use jiff::civil::{Date, DateTime};
use service_kit::{
    filter::{Comparator, Comparison, Parsed, Value},
    id,
};

use super::condition::{Condition, EPOCH, Equality, FIELDS, Field, FilterTime, IdField, PRIORITY_PREFIX, TextField};
use crate::model::{
    field::{self, Priority},
    fold::fold,
};

impl service_kit::filter::Condition for Condition {
    type Field = Field;

    fn field(name: &str) -> Result<Field, String> {
        Field::from_name(name).ok_or_else(|| {
            let names = FIELDS.map(|(name, _)| name).join(", ");
            format!("unknown field; the fields are {names}")
        })
    }

    fn text(text: &str) -> Result<Self, String> {
        Ok(Self::Word(fold(text)))
    }

    fn restriction(field: Field, comparator: (usize, Comparator), value: (usize, Value)) -> Parsed<Self> {
        restriction(field, comparator, value)
    }
}

fn restriction(field: Field, comparator: (usize, Comparator), value: (usize, Value)) -> Parsed<Condition> {
    let (comparator_at, comparator) = comparator;
    let (value_at, value) = value;
    let text = match value {
        Value::Any if comparator == Comparator::Has => return Ok(Condition::IsSet(field)),
        Value::Any => return Err((value_at, "* is only allowed after :".to_owned())),
        Value::Now => None,
        Value::Text(text) => Some(text),
    };
    let wrong_comparator = || (comparator_at, format!("{} supports {}", field.name(), comparators(field)));
    let wrong_value = |problem: &str| (value_at, format!("{} {problem}", field.name()));
    if text.is_none() && !matches!(field, Field::Time(_)) {
        return Err(wrong_value("cannot be compared with now()"));
    }
    let text = text.as_deref();
    let value = text.unwrap_or_default();
    match (field, comparator) {
        (Field::Text(field), Comparator::Has) => Ok(Condition::Contains(field, fold(value))),
        (Field::Text(field), Comparator::Is(comparison))
            if field == TextField::Title || equality(comparison).is_some() =>
        {
            Ok(Condition::Text(field, comparison, value.to_owned()))
        }
        (Field::Labels, Comparator::Has) => label(value).map_err(wrong_value),
        (Field::Priority, Comparator::Is(comparison)) => {
            priority(value).map(|priority| Condition::Priority(comparison, priority)).map_err(wrong_value)
        }
        (Field::DueDate, Comparator::Is(comparison)) => {
            date(value).map(|date| Condition::DueDate(comparison, date)).map_err(wrong_value)
        }
        (Field::Time(field), Comparator::Is(comparison)) => {
            instant(text).map(|instant| Condition::Time(field, comparison, instant)).map_err(wrong_value)
        }
        (Field::Id(field), Comparator::Is(comparison)) => {
            id_condition(field, equality(comparison).ok_or_else(wrong_comparator)?, value).map_err(wrong_value)
        }
        (Field::State, Comparator::Is(comparison)) => {
            state(equality(comparison).ok_or_else(wrong_comparator)?, value).map_err(wrong_value)
        }
        _ => Err(wrong_comparator()),
    }
}

fn equality(comparison: Comparison) -> Option<Equality> {
    match comparison {
        Comparison::Equal => Some(Equality::Equal),
        Comparison::NotEqual => Some(Equality::NotEqual),
        _ => None,
    }
}

fn comparators(field: Field) -> &'static str {
    match field {
        Field::Id(_) | Field::State => "=, != and :*",
        Field::Text(TextField::Title) => "=, !=, <, <=, >, >= and :",
        Field::Text(_) => "=, != and :",
        Field::Priority | Field::DueDate | Field::Time(_) => "=, !=, <, <=, >, >= and :*",
        Field::Labels => ":",
    }
}

fn label(text: &str) -> Result<Condition, &'static str> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err("must not be empty or contain control characters");
    }
    Ok(Condition::Label(fold(text)))
}

fn id_condition(field: IdField, equality: Equality, text: &str) -> Result<Condition, &'static str> {
    match id::parse(text) {
        Some(id) => Ok(Condition::Id(field, equality, id)),
        None if field == IdField::Parent && text.is_empty() => Ok(Condition::NoParent(equality)),
        None if field == IdField::Parent => Err(r#"must be a full UUID, or "" for none"#),
        None => Err("must be a full UUID"),
    }
}

fn state(equality: Equality, text: &str) -> Result<Condition, &'static str> {
    let completed = match text {
        "OPEN" | "STATE_OPEN" => false,
        "COMPLETED" | "STATE_COMPLETED" => true,
        _ => return Err("must be OPEN or COMPLETED"),
    };
    Ok(Condition::Completed(completed == (equality == Equality::Equal)))
}

fn priority(text: &str) -> Result<Priority, &'static str> {
    let short = text.strip_prefix(PRIORITY_PREFIX).unwrap_or(text);
    Priority::from_name(short).ok_or("must be UNSPECIFIED, LOW, MEDIUM or HIGH")
}

fn date(text: &str) -> Result<Date, &'static str> {
    // `due_date` accepts an empty text, for no date.
    field::due_date(text)?.ok_or("must be a day such as 2026-11-30; NOT due_date:* finds tasks without one")
}

/// Parses a timestamp. `None` is `now()`.
fn instant(text: Option<&str>) -> Result<FilterTime, &'static str> {
    const EXPECTED: &str = "must be now() or a timestamp such as 2026-11-30T10:00:00Z";
    let Some(text) = text else { return Ok(FilterTime::Now) };
    let time = rfc3339(text).ok_or(EXPECTED)?;
    Ok(FilterTime::At(field::due_time(Some(time))?.ok_or(EXPECTED)?))
}

/// Parses a timestamp of RFC 3339, section 5.6. The parser of `jiff` accepts other formats, and rejects times in the
/// last days of the year 9999. A leap second is rejected, because it would be returned as another second.
fn rfc3339(text: &str) -> Option<prost_types::Timestamp> {
    const SECONDS: &str = "0000-00-00T00:00:00";
    let text = text.to_ascii_uppercase();
    let (time, rest) = text.split_at_checked(SECONDS.len())?;
    let (rest, east) = if let Some(rest) = rest.strip_suffix('Z') {
        (rest, 0)
    } else {
        let (rest, offset) = rest.split_at_checked(rest.len().checked_sub("+00:00".len())?)?;
        (rest, seconds_east(offset)?)
    };
    let nanos = if rest.is_empty() { 0 } else { nanos(rest.strip_prefix('.')?)? };
    if !has_shape(time, SECONDS) || &time[17..] == "60" {
        return None;
    }
    let time: DateTime = time.parse().ok()?;
    Some(prost_types::Timestamp { seconds: time.duration_since(EPOCH).as_secs() - east, nanos })
}

/// Parses the fraction of a second. If it is finer than nanoseconds, the result is one nanosecond, which the caller
/// rejects.
fn nanos(digits: &str) -> Option<i32> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_end_matches('0');
    if digits.len() > 9 { Some(1) } else { format!("{digits:0<9}").parse().ok() }
}

fn seconds_east(offset: &str) -> Option<i64> {
    let sign = match offset.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let offset = &offset[1..];
    let (hours, minutes) = (offset.get(..2)?.parse::<i64>().ok()?, offset.get(3..)?.parse::<i64>().ok()?);
    (has_shape(offset, "00:00") && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

/// Reports whether a text has a digit wherever `shape` has a zero, and otherwise the characters of `shape`.
fn has_shape(text: &str, shape: &str) -> bool {
    let matches = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(matches)
}
