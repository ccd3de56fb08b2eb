//! The fields of a request, each parsed from its wire form. A fault is a text for people, which follows the name of
//! the field; it does not quote the value, which may be long.

use jiff::civil::Date;
use service_kit::{clock::Timestamp, id};
use taskey_proto::task::v1::task::Priority;
use uuid::Uuid;

const MAX_TITLE_CHARS: usize = 200;
const MAX_NOTES_CHARS: usize = 4000;

/// The bounds of `google.protobuf.Timestamp`: 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;

/// What is wrong with a field.
pub(super) type Fault = &'static str;

/// What is to be done: 1 to 200 code points, no control characters, not only white space. Line and paragraph
/// separators (U+2028, U+2029) are no control characters and are let through, like all else that Unicode has.
#[derive(Clone, Debug, sqlx::Type)]
#[sqlx(transparent)]
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
#[derive(Clone, Debug, sqlx::Type)]
#[sqlx(transparent)]
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

fn longer_than(chars: usize, text: &str) -> bool {
    text.chars().nth(chars).is_some()
}

pub(super) fn id(text: &str) -> Result<Uuid, Fault> {
    id::parse(text).ok_or("must be a UUID such as 0198c0de-0000-7000-8000-000000000000")
}

pub(super) fn priority(number: i32) -> Result<Priority, Fault> {
    Priority::try_from(number).map_err(|_| "is not a known priority")
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
