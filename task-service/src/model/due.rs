//! When a task is due.

use jiff::{civil::Date, tz::TimeZone};
use service_kit::clock::Timestamp;

/// Replaces the end of the last days of the year 9999, which `jiff` cannot represent as an instant.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// Returns the instant by which a task is due: its due time, or the end of its due date in its time zone. Without a
/// time zone, the date is in UTC.
///
/// A day ends at the first instant of the next day, even if a clock change skips or repeats midnight.
pub(crate) fn due_at(date: Option<&str>, time: Option<Timestamp>, zone: &str) -> Option<Timestamp> {
    let date: Option<Date> = date.and_then(|date| date.parse().ok());
    let Some(date) = date else { return time };
    let zone = jiff::tz::db().get(zone).unwrap_or(TimeZone::UTC);
    let day_end =
        date.tomorrow().and_then(|next| next.to_zoned_datetime(zone)).and_then(|midnight| midnight.start_of_day());
    Some(day_end.map_or(NEVER, |instant| Timestamp::from_micros(instant.timestamp().as_microsecond())))
}

#[cfg(test)]
mod tests {
    use super::due_at;

    fn end(date: &str, zone: &str) -> String {
        let end = due_at(Some(date), None, zone).expect("a due date has an end");
        jiff::Timestamp::from_microsecond(end.as_micros()).map_or("never".to_owned(), |end| end.to_string())
    }

    #[test]
    fn a_due_date_ends_with_the_day_in_its_time_zone() {
        assert_eq!(end("2026-11-30", ""), "2026-12-01T00:00:00Z");
        assert_eq!(end("2026-11-30", "Europe/Berlin"), "2026-11-30T23:00:00Z");
        assert_eq!(end("2026-11-30", "Pacific/Auckland"), "2026-11-30T11:00:00Z");
        assert_eq!(end("9999-12-31", ""), "never");
    }

    #[test]
    fn a_day_ends_correctly_if_midnight_is_skipped_or_repeated() {
        // Beirut went from 23:59:59 of the 25th straight to 01:00 of the 26th.
        assert_eq!(end("2017-03-25", "Asia/Beirut"), "2017-03-25T22:00:00Z");
        // Havana set its clocks back from 01:00 to 00:00, so midnight occurred twice.
        assert_eq!(end("2017-11-04", "America/Havana"), "2017-11-05T04:00:00Z");
        // Samoa had no 30th of December 2011.
        assert_eq!(end("2011-12-29", "Pacific/Apia"), "2011-12-30T10:00:00Z");
    }
}
