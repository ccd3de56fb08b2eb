//! Field types, and parsers of fields. An error is a message for the caller, to be read after the name of the field. It
//! does not quote the value, which may be long.

use jiff::civil::Date;
use service_kit::{clock::Timestamp, id};
use uuid::Uuid;

use super::fold::fold;

pub(crate) const MAX_TITLE_CHARS: usize = 200;
pub(crate) const MAX_NOTES_CHARS: usize = 4000;
pub(crate) const MAX_LABELS: usize = 20;
pub(crate) const MAX_LABEL_CHARS: usize = 50;
pub(crate) const MAX_SOURCE_ID_CHARS: usize = 255;

/// The bounds of `google.protobuf.Timestamp`: 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;

/// A description of what is wrong with a field.
pub(crate) type FieldError = &'static str;

/// A title: 1 to 200 code points, no control characters, not only white space. All other characters are accepted, such
/// as line and paragraph separators (U+2028, U+2029), which are not control characters.
#[derive(Clone, Debug)]
pub(crate) struct Title(String);

impl TryFrom<String> for Title {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        if longer_than(MAX_TITLE_CHARS, &text) {
            return Err("must not be longer than 200 characters");
        }
        if text.contains(char::is_control) {
            return Err("must not contain control characters");
        }
        if text.chars().all(char::is_whitespace) {
            return Err("must not be white space only");
        }
        Ok(Self(text))
    }
}

/// Notes: at most 4000 code points, no control characters other than line breaks and tabs.
#[derive(Clone, Debug)]
pub(crate) struct Notes(String);

impl TryFrom<String> for Notes {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        if longer_than(MAX_NOTES_CHARS, &text) {
            return Err("must not be longer than 4000 characters");
        }
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("must not contain control characters other than line breaks and tabs");
        }
        Ok(Self(text))
    }
}

impl Title {
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Notes {
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

/// The labels of a task, in the order of the request. Labels that differ only in case or in their Unicode encoding are
/// the same label, of which each task has its own form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<String>);

/// Separates stored labels. No label contains it.
const SEPARATOR: char = '\n';

impl TryFrom<Vec<String>> for Labels {
    type Error = FieldError;

    fn try_from(labels: Vec<String>) -> Result<Self, FieldError> {
        if labels.len() > MAX_LABELS {
            return Err("must be at most 20 labels");
        }
        let mut keys = Vec::with_capacity(labels.len());
        for label in &labels {
            if label.chars().all(char::is_whitespace) {
                return Err("must not be empty or white space only");
            }
            if longer_than(MAX_LABEL_CHARS, label) {
                return Err("must not be longer than 50 characters each");
            }
            if label.contains(char::is_control) {
                return Err("must not contain control characters");
            }
            let key = fold(label);
            if keys.contains(&key) {
                return Err("must not contain duplicates, not even with another case");
            }
            keys.push(key);
        }
        Ok(Self(labels))
    }
}

impl Labels {
    /// Returns the stored form, in which a separator precedes and follows each label, so that a filter can search for a
    /// whole label as a substring.
    pub(crate) fn to_stored(&self) -> String {
        let Some(first) = self.0.first() else { return String::new() };
        let rest = self.0[1..].iter().map(|label| format!("{label}{SEPARATOR}"));
        format!("{SEPARATOR}{first}{SEPARATOR}{}", rest.collect::<String>())
    }

    /// Returns the keys of labels in a stored form, by which labels are compared.
    pub(crate) fn keys(stored: &str) -> String {
        // Nothing is folded into a separator, or together with one.
        fold(stored)
    }

    /// Returns the labels of a stored form.
    pub(crate) fn split_stored(text: &str) -> impl Iterator<Item = &str> {
        text.split(SEPARATOR).filter(|label| !label.is_empty())
    }
}

fn longer_than(chars: usize, text: &str) -> bool {
    text.chars().nth(chars).is_some()
}

pub(crate) fn id(text: &str) -> Result<Uuid, FieldError> {
    id::parse(text).ok_or("must be a UUID such as 0198c0de-0000-7000-8000-000000000000")
}

/// The priority of a task, in ascending order. The numbers are those of the API and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Priority {
    Unspecified = 0,
    Low = 1,
    Medium = 2,
    High = 3,
}

impl Priority {
    const ALL: [Self; 4] = [Self::Unspecified, Self::Low, Self::Medium, Self::High];

    /// Returns the name without the prefix `PRIORITY_`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority as Self
    }
}

impl TryFrom<i32> for Priority {
    type Error = FieldError;

    fn try_from(number: i32) -> Result<Self, FieldError> {
        Self::ALL.into_iter().find(|priority| i32::from(*priority) == number).ok_or("is not a known priority")
    }
}

/// Checks that a time zone is empty, or a name exactly as the IANA database spells it.
pub(crate) fn time_zone(name: String) -> Result<String, FieldError> {
    let is_valid = name.is_empty() || jiff::tz::db().get(&name).is_ok_and(|zone| zone.iana_name() == Some(&name));
    if is_valid { Ok(name) } else { Err("must be the name of a time zone such as Europe/Berlin") }
}

/// Parses an id. Returns `None` if the text is empty.
pub(crate) fn optional_id(text: &str) -> Result<Option<Uuid>, FieldError> {
    if text.is_empty() { Ok(None) } else { id(text).map(Some) }
}

/// Parses a day in the form `YYYY-MM-DD`, from year 1 on. Returns `None` if the text is empty.
pub(crate) fn due_date(text: &str) -> Result<Option<Date>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    // The parser accepts other formats too.
    let date = text.parse().ok().filter(|date: &Date| date.year() >= 1 && date.to_string() == text);
    date.map(Some).ok_or("must be a day such as 2026-11-30")
}

/// Parses a timestamp. Fractions of a microsecond are rejected, because the database cannot store them.
pub(crate) fn due_time(time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, FieldError> {
    let Some(prost_types::Timestamp { seconds, nanos }) = time else { return Ok(None) };
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Err("must be from year 1 to year 9999");
    }
    if !(0..1_000_000_000).contains(&nanos) {
        return Err("must have nanos from 0 to 999999999");
    }
    if nanos % 1000 != 0 {
        return Err("must not be finer than a microsecond");
    }
    Ok(Some(Timestamp::from_micros(seconds * 1_000_000 + i64::from(nanos) / 1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_dates_are_calendar_days_in_one_form() {
        for valid in ["0001-01-01", "2024-02-29", "2026-11-30", "9999-12-31"] {
            assert_eq!(due_date(valid).map(|date| date.map(|date| date.to_string())), Ok(Some(valid.to_owned())));
        }
        let invalid = [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "0000-01-01",
            "-001-01-01",
            "-000001-01-01",
            "20261130",
            "2026-11-30T00:00",
            "2026-1-1",
            " 2026-11-30",
            "2026-11-30 ",
            "26-11-30",
            "10000-01-01",
            "٢٠٢٦-١١-٣٠",
            "today",
            "2026-11-30\0",
        ];
        for invalid in invalid {
            assert!(due_date(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn due_times_are_not_rounded() {
        for (seconds, nanos) in [(MIN_SECONDS, 0), (-1, 999_999_000), (0, 0), (MAX_SECONDS, 999_999_000)] {
            let sent = prost_types::Timestamp { seconds, nanos };
            let parsed = due_time(Some(sent)).expect("a valid time").expect("a time");
            assert_eq!(prost_types::Timestamp::from(parsed), sent);
        }
    }

    #[test]
    fn invalid_due_times_are_refused() {
        let invalid = [
            (MIN_SECONDS - 1, 0),
            (MAX_SECONDS + 1, 0),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
            (0, 1),
            (0, i32::MIN),
            (0, i32::MAX),
        ];
        for (seconds, nanos) in invalid {
            assert!(due_time(Some(prost_types::Timestamp { seconds, nanos })).is_err(), "{seconds} {nanos}");
        }
    }
}
