//! From a field, a comparator and a value to a condition.

use jiff::civil::{Date, DateTime};
use service_kit::id;
use taskey_proto::task::v1::task::Priority;

use super::{
    condition::{Comparison, Condition, EPOCH, Equality, Field, IdField, Instant, PRIORITY_PREFIX, TextField},
    fold::fold,
};
use crate::model::field;

/// What is wrong, and at which byte; bytes become columns in the end, so that the time stays linear.
pub(super) type At<T> = Result<T, (usize, String)>;

/// Between a field and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    Has,
    Is(Comparison),
}

impl Comparator {
    /// No sign begins with one that comes before it.
    pub(super) const ALL: [Self; 7] = [
        Self::Has,
        Self::Is(Comparison::NotEqual),
        Self::Is(Comparison::LessOrEqual),
        Self::Is(Comparison::GreaterOrEqual),
        Self::Is(Comparison::Less),
        Self::Is(Comparison::Greater),
        Self::Is(Comparison::Equal),
    ];

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Has => ":",
            Self::Is(comparison) => comparison.sign(),
        }
    }
}

/// What a field is compared to.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Now,
    /// Anything at all.
    Any,
}

/// A condition on a field. The comparator and the value come with the bytes at which they begin.
///
/// # Errors
/// Whichever of them does not fit the field, and what would.
pub(super) fn restriction(field: Field, comparator: (usize, Comparator), value: (usize, Value)) -> At<Condition> {
    let (comparator_at, comparator) = comparator;
    let (value_at, value) = value;
    let text = match value {
        Value::Any if comparator == Comparator::Has => return Ok(Condition::IsSet(field)),
        Value::Any => return Err((value_at, "* can only stand after :".to_owned())),
        Value::Now => None,
        Value::Text(text) => Some(text),
    };
    let wrong_comparator = || (comparator_at, format!("{} takes {}", field.name(), comparators(field)));
    let wrong_value = |fault: &str| (value_at, format!("{} {fault}", field.name()));
    if text.is_none() && !matches!(field, Field::Time(_)) {
        return Err(wrong_value("is no instant that now() could be compared to"));
    }
    let text = text.as_deref();
    let given = text.unwrap_or_default();
    match (field, comparator) {
        (Field::Text(field), Comparator::Has) => Ok(Condition::Contains(field, fold(given))),
        (Field::Text(field), Comparator::Is(comparison))
            if field == TextField::Title || equality(comparison).is_some() =>
        {
            Ok(Condition::Text(field, comparison, given.to_owned()))
        }
        (Field::Labels, Comparator::Has) => label(given).map_err(wrong_value),
        (Field::Priority, Comparator::Is(comparison)) => {
            priority(given).map(|priority| Condition::Priority(comparison, priority)).map_err(wrong_value)
        }
        (Field::DueDate, Comparator::Is(comparison)) => {
            date(given).map(|date| Condition::DueDate(comparison, date)).map_err(wrong_value)
        }
        (Field::Time(field), Comparator::Is(comparison)) => {
            instant(text).map(|instant| Condition::Time(field, comparison, instant)).map_err(wrong_value)
        }
        (Field::Id(field), Comparator::Is(comparison)) => {
            identity(field, equality(comparison).ok_or_else(wrong_comparator)?, given).map_err(wrong_value)
        }
        (Field::State, Comparator::Is(comparison)) => {
            state(equality(comparison).ok_or_else(wrong_comparator)?, given).map_err(wrong_value)
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
        return Err("are not empty and hold no control characters");
    }
    Ok(Condition::Label(text.to_owned()))
}

fn identity(field: IdField, equality: Equality, text: &str) -> Result<Condition, &'static str> {
    match id::parse(text) {
        Some(id) => Ok(Condition::Id(field, equality, id)),
        None if field == IdField::Parent && text.is_empty() => Ok(Condition::NoParent(equality)),
        None if field == IdField::Parent => Err(r#"must be a UUID in full, or "" for none"#),
        None => Err("must be a UUID in full"),
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
    let known = Priority::from_str_name(&format!("{PRIORITY_PREFIX}{short}"));
    known.ok_or("must be UNSPECIFIED, LOW, MEDIUM or HIGH")
}

fn date(text: &str) -> Result<Date, &'static str> {
    // An empty text is none.
    field::due_date(text)?.ok_or("must be a day such as 2026-11-30; NOT due_date:* finds tasks without one")
}

/// No text is `now()`.
fn instant(text: Option<&str>) -> Result<Instant, &'static str> {
    const SHAPE: &str = "must be now() or an instant such as 2026-11-30T10:00:00Z";
    let Some(text) = text else { return Ok(Instant::Now) };
    let time = rfc3339(text).ok_or(SHAPE)?;
    Ok(Instant::At(field::due_time(Some(time))?.ok_or(SHAPE)?))
}

/// An instant as RFC 3339, section 5.6, writes it. The parser of the library takes more forms, and ends some days
/// before the year 9999 does; and a leap second would come back as another.
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

/// The fraction of a second; one that is finer than nanoseconds counts as one, for it is refused as well.
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

/// Whether there is a digit where `shape` has one, and otherwise what `shape` has.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}
