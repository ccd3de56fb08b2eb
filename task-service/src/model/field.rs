//! The fields of a request, each parsed from its wire form. A fault is a text for people, which follows the name of
//! the field; it does not quote the value, which may be long.

use jiff::civil::Date;
use service_kit::{clock::Timestamp, id};
use taskey_proto::task::v1::task::Priority;
use uuid::Uuid;

const MAX_TITLE_CHARS: usize = 200;
const MAX_NOTES_CHARS: usize = 4000;
const MAX_LABELS: usize = 20;
const MAX_LABEL_CHARS: usize = 50;

/// The bounds of `google.protobuf.Timestamp`: 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;

/// What is wrong with a field.
pub(super) type Fault = &'static str;

/// What is to be done: 1 to 200 code points, no control characters, not only white space. Line and paragraph
/// separators (U+2028, U+2029) are no control characters and are let through, like all else that Unicode has.
#[derive(Clone, Debug)]
pub(crate) struct Title(String);

impl TryFrom<String> for Title {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        if longer_than(MAX_TITLE_CHARS, &text) {
            return Err("must not be longer than 200 characters");
        }
        if text.contains(char::is_control) {
            return Err("must not hold control characters");
        }
        if text.chars().all(char::is_whitespace) {
            return Err("must not be white space only");
        }
        Ok(Self(text))
    }
}

/// Anything more to say: at most 4000 code points, no control characters but line breaks and tabs.
#[derive(Clone, Debug)]
pub(crate) struct Notes(String);

impl TryFrom<String> for Notes {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        if longer_than(MAX_NOTES_CHARS, &text) {
            return Err("must not be longer than 4000 characters");
        }
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("must not hold control characters other than line breaks and tabs");
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

/// Words to find a task by, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<String>);

/// What separates labels where they are stored. No label holds it.
const SEPARATOR: char = '\n';

impl TryFrom<Vec<String>> for Labels {
    type Error = Fault;

    fn try_from(labels: Vec<String>) -> Result<Self, Fault> {
        if labels.len() > MAX_LABELS {
            return Err("must not be more than 20");
        }
        for (index, label) in labels.iter().enumerate() {
            if label.chars().all(char::is_whitespace) {
                return Err("must not be empty or white space only");
            }
            if longer_than(MAX_LABEL_CHARS, label) {
                return Err("must not be longer than 50 characters each");
            }
            if label.contains(char::is_control) {
                return Err("must not hold control characters");
            }
            if labels[..index].contains(label) {
                return Err("must not hold one twice");
            }
        }
        Ok(Self(labels))
    }
}

impl Labels {
    /// As they are stored: each with a separator before and behind it, so that one is found by its text.
    pub(crate) fn stored(&self) -> String {
        let Some(first) = self.0.first() else { return String::new() };
        let rest = self.0[1..].iter().map(|label| format!("{label}{SEPARATOR}"));
        format!("{SEPARATOR}{first}{SEPARATOR}{}", rest.collect::<String>())
    }

    /// Of what is stored.
    pub(crate) fn of_stored(text: &str) -> Vec<String> {
        text.split(SEPARATOR).filter(|label| !label.is_empty()).map(str::to_owned).collect()
    }
}

fn longer_than(chars: usize, text: &str) -> bool {
    text.chars().nth(chars).is_some()
}

pub(crate) fn id(text: &str) -> Result<Uuid, Fault> {
    id::parse(text).ok_or("must be a UUID such as 0198c0de-0000-7000-8000-000000000000")
}

pub(super) fn priority(number: i32) -> Result<Priority, Fault> {
    Priority::try_from(number).map_err(|_| "is not a known priority")
}

/// The name of a time zone as the IANA database spells it; empty if there is none.
pub(super) fn time_zone(name: String) -> Result<String, Fault> {
    let known = name.is_empty() || jiff::tz::db().get(&name).is_ok_and(|zone| zone.iana_name() == Some(&name));
    if known { Ok(name) } else { Err("must be the name of a time zone such as Europe/Berlin") }
}

/// The id in a field that may be left empty.
pub(crate) fn optional_id(text: &str) -> Result<Option<Uuid>, Fault> {
    if text.is_empty() { Ok(None) } else { id(text).map(Some) }
}

/// A day in the form `YYYY-MM-DD`, from year 1 on; none if it is empty.
pub(super) fn due_date(text: &str) -> Result<Option<Date>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    // The parser takes more forms than the one that it writes.
    let date = text.parse().ok().filter(|date: &Date| date.year() >= 1 && date.to_string() == text);
    date.map(Some).ok_or("must be a day such as 2026-11-30")
}

/// An instant. One that is finer than what can be kept is refused, since it would come back as another.
pub(super) fn due_time(time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Fault> {
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
    fn only_days_of_the_calendar_in_one_form_are_due_dates() {
        for good in ["0001-01-01", "2024-02-29", "2026-11-30", "9999-12-31"] {
            assert_eq!(due_date(good).map(|date| date.map(|date| date.to_string())), Ok(Some(good.to_owned())));
        }
        let wrong = [
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
        for wrong in wrong {
            assert!(due_date(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_due_time_comes_back_as_it_was_sent() {
        for (seconds, nanos) in [(MIN_SECONDS, 0), (-1, 999_999_000), (0, 0), (MAX_SECONDS, 999_999_000)] {
            let sent = prost_types::Timestamp { seconds, nanos };
            let parsed = due_time(Some(sent)).expect("good").expect("there");
            assert_eq!(prost_types::Timestamp::from(parsed), sent);
        }
    }

    #[test]
    fn absurd_due_times_are_refused() {
        let absurd = [
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
        for (seconds, nanos) in absurd {
            assert!(due_time(Some(prost_types::Timestamp { seconds, nanos })).is_err(), "{seconds} {nanos}");
        }
    }
}
