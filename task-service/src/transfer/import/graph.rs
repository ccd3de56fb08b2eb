//! The recurrence and the times of Microsoft Graph: `patternedRecurrence` and `dateTimeTimeZone`.

use std::ops::RangeInclusive;

use jiff::{
    SignedDuration,
    civil::{Date, DateTime, Time as CivilTime},
};
use serde_json::Value;
use taskey_proto::task::v1::{Recurrence, Reminder, Task, reminder::Time};

use super::{
    entry::Loss,
    fit::{has_valid_recurrence, relate_reminders},
    zone::iana_name,
};
use crate::{
    model::{
        field::due_time,
        recurrence::{Rule, SearchBudget},
    },
    transfer::fields::instant,
};

/// The names of days, which begin with those of RFC 5545.
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The names of the weeks of a month.
const WEEKS: [(&str, i8); 6] = [("", 1), ("first", 1), ("second", 2), ("third", 3), ("fourth", 4), ("last", -1)];

/// Maximum number of occurrences of a range, of which those before the due date are counted.
const MAX_OCCURRENCES: usize = 1000;

/// The names of UTC, in lower case.
const UTC: [&str; 5] = ["utc", "etc/utc", "gmt", "etc/gmt", "tzone://microsoft/utc"];

/// The offsets of time zones from UTC, in hours.
const OFFSETS: RangeInclusive<i64> = -12..=14;

/// Sets the due date, of which the product shows no time. Graph converts the start of the day in the time zone of the user
/// to UTC, so that it can be on the day before. Returns what is reported.
pub(crate) fn set_due(task: &mut Task, due: &Value, recurrence: &Value) -> Option<String> {
    let Some(text) = due["dateTime"].as_str() else {
        return (!due.is_null()).then(|| "is not a date that is known, and is not imported".to_owned());
    };
    let Ok(local) = text.trim_end_matches('Z').parse::<DateTime>() else {
        // It is an error of the row.
        text.clone_into(&mut task.due_date);
        return None;
    };
    let zone = due["timeZone"].as_str().unwrap_or("UTC");
    let is_utc = UTC.contains(&zone.to_ascii_lowercase().as_str());
    let day = if is_utc { day_of_user(local, recurrence) } else { local.date() };
    task.due_date = day.to_string();
    match local.time() {
        midnight if midnight == CivilTime::midnight() => None,
        _ if is_utc => Some(format!("is not midnight in UTC, but in the time zone of the user; {day} is imported")),
        _ => Some(format!("has a time of the day; only the date, {day}, is imported")),
    }
}

/// Returns the day that starts at a time in UTC in the time zone of the user: that with the nearest midnight, unless the
/// recurrence starts on one that a time zone can have.
fn day_of_user(utc: DateTime, recurrence: &Value) -> Date {
    let is_start = |start: &Date| {
        let offset = start.to_datetime(CivilTime::midnight()).duration_since(utc);
        (SignedDuration::from_hours(*OFFSETS.start())..=SignedDuration::from_hours(*OFFSETS.end())).contains(&offset)
    };
    let nearest = if utc.hour() < 12 { utc.date() } else { utc.date().tomorrow().unwrap_or(utc.date()) };
    date(&recurrence["range"]["startDate"]).filter(is_start).unwrap_or(nearest)
}

/// Sets how a task recurs, from the due date on, which is the start of the range if there is none. Returns what is lost.
pub(crate) fn set_recurrence(task: &mut Task, recurrence: &Value, searches: &mut SearchBudget) -> Option<Loss> {
    if recurrence.is_null() {
        return None;
    }
    let recurring = recurring(task, recurrence, searches).filter(|task| has_valid_recurrence(task, None, searches));
    let Some(recurring) = recurring else {
        return Some(("recurrence", "is not a pattern with a due date that is known, and is not imported"));
    };
    *task = recurring;
    None
}

/// Sets the reminder of a task, whose recurrence and due date are set. Returns what is lost.
pub(crate) fn set_reminder(task: &mut Task, time: &Value, is_on: bool) -> Option<Loss> {
    const NAME: &str = "reminderDateTime";
    match (time, zoned_time(time)) {
        (Value::Null, _) => None,
        _ if !is_on => Some((NAME, "is switched off, and is not imported")),
        (_, None) => Some((NAME, "is not a time of a known time zone, and is not imported")),
        (_, Some(at)) => {
            task.reminders = vec![Reminder { time: Some(Time::RemindTime(at)), ..Reminder::default() }];
            let recurs = task.recurrence.is_some();
            let zone = iana_name(time["timeZone"].as_str().unwrap_or_default());
            // The following reminders have the same time of the day in this time zone.
            if recurs && zone != "UTC" {
                zone.clone_into(&mut task.time_zone);
            }
            let is_lost = recurs && !relate_reminders(task);
            is_lost.then_some((NAME, "is too far from the due date; only the first occurrence has the reminder"))
        }
    }
}

/// Returns the instant of a `dateTimeTimeZone`, if it is in the years 1 to 9999, and its zone is known.
pub(crate) fn zoned_time(value: &Value) -> Option<prost_types::Timestamp> {
    let zone = iana_name(value["timeZone"].as_str()?);
    let instant = instant(value["dateTime"].as_str()?.parse().ok()?, zone);
    instant.filter(|_| due_time(instant).is_ok())
}

fn recurring(task: &Task, recurrence: &Value, searches: &mut SearchBudget) -> Option<Task> {
    // The year 1 stands for no date.
    let start = date(&recurrence["range"]["startDate"]).filter(|start| start.year() > 1);
    let due: Date = task.due_date.parse().ok().or(start)?;
    let pattern = pattern(&recurrence["pattern"])?;
    let end = end(&recurrence["range"], &pattern, start.unwrap_or(due), due, searches)?;
    let rule = Rule::parse(&format!("{pattern}{end}")).ok()?;
    let recurrence = Recurrence { rrule: rule.to_string(), ..Recurrence::default() };
    Some(Task { due_date: due.to_string(), recurrence: Some(recurrence), ..task.clone() })
}

/// Returns the rule of a `recurrencePattern`, without an end.
fn pattern(pattern: &Value) -> Option<String> {
    let number = |name: &str| pattern[name].as_u64();
    let rule = match &*text(&pattern["type"]) {
        "daily" => "FREQ=DAILY".to_owned(),
        "weekly" => {
            let first = day(&pattern["firstDayOfWeek"]).unwrap_or_else(|| "SU".to_owned());
            match &*days(pattern)? {
                "" => format!("FREQ=WEEKLY;WKST={first}"),
                days => format!("FREQ=WEEKLY;WKST={first};BYDAY={days}"),
            }
        }
        "absolutemonthly" => format!("FREQ=MONTHLY;BYMONTHDAY={}", number("dayOfMonth")?),
        "relativemonthly" => format!("FREQ=MONTHLY;{}", relative_day(pattern)?),
        "absoluteyearly" => {
            format!("FREQ=YEARLY;BYMONTH={};BYMONTHDAY={}", number("month")?, number("dayOfMonth")?)
        }
        "relativeyearly" => format!("FREQ=YEARLY;BYMONTH={};{}", number("month")?, relative_day(pattern)?),
        _ => return None,
    };
    Some(format!("{rule};INTERVAL={}", number("interval")?))
}

/// Returns the part of a rule for the end of a `recurrenceRange`, whose number counts from its start.
fn end(range: &Value, pattern: &str, start: Date, due: Date, searches: &mut SearchBudget) -> Option<String> {
    match &*text(&range["type"]) {
        "" | "noend" => Some(String::new()),
        "enddate" => Some(format!(";UNTIL={}", date(&range["endDate"])?.strftime("%Y%m%d"))),
        "numbered" => {
            let count = usize::try_from(range["numberOfOccurrences"].as_u64()?).ok()?;
            let dates = Rule::parse(pattern).ok().filter(|_| count <= MAX_OCCURRENCES)?;
            let before = dates.count_before(start, due, count, searches)?;
            Some(format!(";COUNT={}", count - before))
        }
        _ => None,
    }
}

/// Returns the part of a rule for the first, second, third, fourth or last of some days.
fn relative_day(pattern: &Value) -> Option<String> {
    let index = text(&pattern["index"]);
    let (_, number) = WEEKS.into_iter().find(|(name, _)| *name == index)?;
    match days(pattern)? {
        days if days.is_empty() => None,
        days if days.contains(',') => Some(format!("BYDAY={days};BYSETPOS={number}")),
        day => Some(format!("BYDAY={number}{day}")),
    }
}

/// Returns the names of the days of a pattern.
fn days(pattern: &Value) -> Option<String> {
    let days = pattern["daysOfWeek"].as_array().into_iter().flatten();
    Some(days.map(day).collect::<Option<Vec<_>>>()?.join(","))
}

fn day(value: &Value) -> Option<String> {
    let name = text(value);
    DAYS.contains(&&*name).then(|| name[..2].to_ascii_uppercase())
}

/// Returns a text in lower case: Outlook writes the values of enumerations in another case.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_ascii_lowercase()
}

fn date(value: &Value) -> Option<Date> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the rule of a task that is due on 2026-12-01, a Tuesday.
    fn rule(pattern: &Value, range: &Value) -> Option<String> {
        let mut task = Task { due_date: "2026-12-01".to_owned(), ..Task::default() };
        let loss =
            set_recurrence(&mut task, &json!({ "pattern": pattern, "range": range }), &mut SearchBudget::default());
        assert_eq!(loss.is_none(), task.recurrence.is_some());
        Some(task.recurrence?.rrule)
    }

    #[test]
    fn midnight_of_the_user_in_utc_is_a_date() {
        let no_start = json!(null);
        for (time, zone, start, expected) in [
            ("2026-12-01T00:00:00.0000000", "UTC", &no_start, "2026-12-01"),
            // In Berlin, New York, Kolkata, and Auckland.
            ("2026-11-30T23:00:00.0000000", "UTC", &no_start, "2026-12-01"),
            ("2026-12-01T05:00:00.0000000Z", "tzone://Microsoft/Utc", &no_start, "2026-12-01"),
            ("2026-11-30T18:30:00.0000000", "UTC", &no_start, "2026-12-01"),
            ("2026-11-30T11:00:00.0000000", "UTC", &json!("2026-12-01"), "2026-12-01"),
            // UTC-12, and starts that are of another occurrence.
            ("2026-12-01T12:00:00.0000000", "UTC", &json!("2026-12-01"), "2026-12-01"),
            ("2026-11-30T23:00:00.0000000", "UTC", &json!("2026-11-30"), "2026-12-01"),
            ("2026-11-30T23:00:00.0000000", "UTC", &json!("2026-10-01"), "2026-12-01"),
            ("2026-11-30T23:00:00.0000000", "UTC", &json!("0001-01-01"), "2026-12-01"),
            ("9999-12-31T23:00:00.0000000", "UTC", &no_start, "9999-12-31"),
            // Local times.
            ("2026-11-30T23:00:00.0000000", "Europe/Berlin", &no_start, "2026-11-30"),
            ("2026-12-01T00:00:00.0000000", "W. Europe Standard Time", &no_start, "2026-12-01"),
        ] {
            let mut task = Task::default();
            let due = json!({"dateTime": time, "timeZone": zone});
            let reported = set_due(&mut task, &due, &json!({"range": {"startDate": start}}));
            assert_eq!(task.due_date, expected, "{time} {zone} {start}");
            assert_eq!(reported.is_some(), !time.contains("T00:00:00"), "{time} {zone}");
            assert!(reported.is_none_or(|reported| reported.contains(expected)));
        }
        let mut task = Task::default();
        assert!(set_due(&mut task, &json!({"timeZone": "UTC"}), &no_start).is_some());
        assert_eq!((set_due(&mut task, &no_start, &no_start), &task.due_date[..]), (None, ""));
    }

    #[test]
    fn patterns_become_rules() {
        let weekdays = json!(["monday", "tuesday", "wednesday", "thursday", "friday"]);
        for (pattern, expected) in [
            (json!({"type": "daily", "interval": 3}), "FREQ=DAILY;INTERVAL=3"),
            (json!({"type": "weekly", "interval": 1}), "FREQ=WEEKLY;WKST=SU"),
            (
                json!({"type": "weekly", "interval": 2, "daysOfWeek": ["sunday", "tuesday"], "firstDayOfWeek": "monday"}),
                "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU",
            ),
            (json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31}), "FREQ=MONTHLY;BYMONTHDAY=31"),
            (
                json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["Tuesday"], "index": "Second"}),
                "FREQ=MONTHLY;BYDAY=2TU",
            ),
            (json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["monday"]}), "FREQ=MONTHLY;BYDAY=1MO"),
            (
                json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": weekdays, "index": "last"}),
                "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            ),
            (
                json!({"type": "absoluteYearly", "interval": 1, "dayOfMonth": 24, "month": 12}),
                "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24",
            ),
            (
                json!({"type": "relativeYearly", "interval": 1, "daysOfWeek": ["thursday"], "index": "fourth", "month": 11}),
                "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
            ),
        ] {
            let range = json!({"type": "noEnd", "startDate": "2026-12-01"});
            assert_eq!(rule(&pattern, &range).as_deref(), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn ends_of_ranges_become_ends_of_rules() {
        let end = |range: &Value| rule(&json!({"type": "daily", "interval": 7}), range);
        let until = json!({"type": "endDate", "startDate": "2026-11-24", "endDate": "2026-12-31"});
        assert_eq!(end(&until).as_deref(), Some("FREQ=DAILY;INTERVAL=7;UNTIL=20261231"));
        // Two of the ten are before the due date.
        let numbered = json!({"type": "numbered", "startDate": "2026-11-17", "numberOfOccurrences": 10});
        assert_eq!(end(&numbered).as_deref(), Some("FREQ=DAILY;INTERVAL=7;COUNT=8"));
        for range in [
            json!({"type": "endDate", "endDate": "soon"}),
            json!({"type": "endDate", "endDate": "2026-11-30"}),
            json!({"type": "numbered", "startDate": "2026-11-17", "numberOfOccurrences": 2}),
            json!({"type": "numbered", "startDate": "2026-12-01", "numberOfOccurrences": 1001}),
            json!({"type": "other"}),
        ] {
            assert_eq!(end(&range), None, "{range}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_lost() {
        for pattern in [
            json!(null),
            json!({"type": "hourly", "interval": 1}),
            json!({"type": "daily"}),
            json!({"type": "daily", "interval": 0}),
            json!({"type": "weekly", "interval": 1, "daysOfWeek": ["someday"]}),
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 32}),
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": []}),
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["monday"], "index": "fifth"}),
        ] {
            assert_eq!(rule(&pattern, &json!({"type": "noEnd"})), None, "{pattern}");
        }
    }
}
