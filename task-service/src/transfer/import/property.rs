//! The properties of iCalendar and the types of their values (RFC 5545, sections 3.1 and 3.3).

use jiff::{
    Span, SpanRelativeTo,
    civil::{Date, DateTime, Time},
};
use prost_types::Timestamp;

use super::zone::iana_name;
use crate::transfer::fields::{instant, to_timestamp};

/// A property.
pub(crate) struct Property<'a> {
    /// The name in upper case.
    pub(crate) name: String,
    /// The names and values of the parameters.
    parameters: Vec<(String, &'a str)>,
    pub(crate) value: &'a str,
}

impl<'a> Property<'a> {
    /// Parses a line.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (name, mut rest) = line.split_at(line.find([';', ':'])?);
        let mut parameters = Vec::new();
        while let Some(parameter) = rest.strip_prefix(';') {
            let (name, value) = parameter.split_once('=')?;
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find([';', ':'])?),
            };
            parameters.push((name.to_ascii_uppercase(), value));
            rest = after;
        }
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let value = rest.strip_prefix(':')?;
        is_name.then(|| Self { name: name.to_ascii_uppercase(), parameters, value })
    }

    /// Returns the value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

/// Returns a text without its escapes.
pub(crate) fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut unescaped = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => unescaped.push('\n'),
                Some(escaped) => unescaped.push(escaped),
                None => unescaped.push('\\'),
            },
            _ => unescaped.push(character),
        }
    }
    unescaped
}

/// Returns the texts of a list, which commas separate.
pub(crate) fn texts(value: &str) -> Vec<String> {
    let (mut texts, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (index, character) in value.char_indices() {
        if character == ',' && !is_escaped {
            texts.push(unescape(&value[start..index]));
            start = index + 1;
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    texts.push(unescape(&value[start..]));
    texts
}

/// When a task is due.
pub(crate) enum Due {
    Date(Date),
    /// The zone is set if the time is local.
    Time(Timestamp, Option<String>),
    /// A time whose zone is unknown.
    FloatingTime(DateTime),
}

/// Parses a date or a time.
pub(crate) fn due(property: &Property<'_>) -> Option<Due> {
    let value = property.value.trim();
    if let Some(date) = date(value) {
        return Some(Due::Date(date));
    }
    if let Some(time) = time(property) {
        return Some(Due::Time(time, None));
    }
    let local = date_time(value)?;
    match property.parameter("TZID") {
        Some(zone) => {
            let zone = iana_name(zone.trim_start_matches('/'));
            Some(Due::Time(instant(local, zone)?, Some(zone.to_owned())))
        }
        None => Some(Due::FloatingTime(local)),
    }
}

/// Parses a time in UTC.
pub(crate) fn time(property: &Property<'_>) -> Option<Timestamp> {
    date_time(property.value.trim().strip_suffix('Z')?).map(to_timestamp)
}

/// Parses a duration in seconds (section 3.3.6). A day has 24 hours.
pub(crate) fn duration(text: &str) -> Option<i64> {
    // The parser accepts other formats, too.
    text.trim_start_matches(['+', '-']).strip_prefix('P')?;
    let duration: Span = text.parse().ok()?;
    Some(duration.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.as_secs())
}

fn date(text: &str) -> Option<Date> {
    let is_date = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse().ok());
    let year = text.get(..4).filter(|_| is_date)?.parse().ok()?;
    Date::new(year, number(4..6)?, number(6..8)?).ok().filter(|date| date.year() >= 1)
}

fn date_time(text: &str) -> Option<DateTime> {
    let (day, time) = text.split_once('T')?;
    let is_time = time.len() == 6 && time.bytes().all(|byte| byte.is_ascii_digit());
    let number = |range| time.get(range).filter(|_| is_time).and_then(|digits: &str| digits.parse().ok());
    let (hour, minute, second): (i8, i8, i8) = (number(0..2)?, number(2..4)?, number(4..6)?);
    // A leap second counts as the second before.
    Some(date(day)?.to_datetime(Time::new(hour, minute, second.min(59), 0).ok()?))
}
