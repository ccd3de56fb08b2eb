//! When an occurrence is due by its rule.

use std::fmt::{self, Display, Formatter};

use jiff::{
    Span,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};
use service_kit::clock::Timestamp;

/// Returns a time zone, or UTC if the name is empty or not in the database any more.
pub(super) fn time_zone(name: &str) -> TimeZone {
    jiff::tz::db().get(name).unwrap_or(TimeZone::UTC)
}

/// A day, or a civil time in the time zone of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Slot {
    Date(Date),
    Time(DateTime),
}

impl Slot {
    /// Returns the slot of a task that is due on a day or at a time in a zone.
    pub(crate) fn from_due(date: Option<Date>, time: Option<Timestamp>, zone: &str) -> Option<Self> {
        match (date, time) {
            (Some(date), _) => Some(Self::Date(date)),
            (None, Some(time)) => {
                let time = jiff::Timestamp::from_microsecond(time.as_micros()).ok()?;
                Some(Self::Time(time_zone(zone).to_datetime(time)))
            }
            (None, None) => None,
        }
    }

    pub(crate) fn date(self) -> Date {
        match self {
            Self::Date(date) => date,
            Self::Time(time) => time.date(),
        }
    }

    /// Returns the time, or the beginning of the day.
    pub(crate) fn to_civil(self) -> DateTime {
        match self {
            Self::Date(date) => date.to_datetime(Time::midnight()),
            Self::Time(time) => time,
        }
    }

    pub(crate) fn checked_add(self, span: Span) -> Option<Self> {
        match self {
            Self::Date(date) => date.checked_add(span).ok().map(Self::Date),
            Self::Time(time) => time.checked_add(span).ok().map(Self::Time),
        }
    }
}

impl Display for Slot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        if text.contains('T') { text.parse().map(Self::Time) } else { text.parse().map(Self::Date) }
    }
}
