//! The dates of Todoist: days, times, and recurring dates in English, as its help describes them.

use std::iter::Peekable;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use taskey_proto::task::v1::{Recurrence, Task, recurrence::Basis};

use super::todoist_rule;
use crate::{
    model::recurrence::{Rule, SearchBudget},
    transfer::fields::instant,
};

/// Maximum length of a recurring date.
const MAX_BYTES: usize = 200;

/// The words that stand for `every` and a unit.
const ADVERBS: [(&str, &str); 7] = [
    ("everyday", "day"),
    ("daily", "day"),
    ("weekly", "week"),
    ("monthly", "month"),
    ("quarterly", "quarter"),
    ("yearly", "year"),
    ("annually", "year"),
];

/// The times of the parts of a day, in hours.
const DAY_TIMES: [(&str, i8); 6] =
    [("morning", 9), ("noon", 12), ("afternoon", 12), ("evening", 19), ("night", 22), ("midnight", 0)];

/// A date that recurs.
#[derive(Debug, PartialEq, Eq)]
struct RecurringDate {
    rule: Rule,
    basis: Basis,
    time: Option<Time>,
    start: Option<Date>,
}

/// Sets when a task is due, and how it recurs: first on the day of the import, `now`, or after it. Returns `None` if the text
/// is not a date that is known.
pub(crate) fn set_due(
    task: &mut Task,
    text: &str,
    zone: &str,
    now: Timestamp,
    searches: &mut SearchBudget,
) -> Option<()> {
    if let Some(date) = parse_date(text) {
        task.due_date = date.to_string();
    } else if let Some(time) = parse_time(text, zone) {
        (task.due_time, task.time_zone) = (Some(time), zone.to_owned());
    } else {
        let RecurringDate { rule, basis, time, start } = RecurringDate::parse(text)?;
        let today = TimeZone::get(zone).unwrap_or(TimeZone::UTC).to_datetime(now).date();
        let first = rule.next_date(start.unwrap_or(today), today.yesterday().ok()?, searches)?;
        match time {
            None => task.due_date = first.to_string(),
            Some(time) => {
                (task.due_time, task.time_zone) = (Some(instant(first.to_datetime(time), zone)?), zone.to_owned());
            }
        }
        task.recurrence = Some(Recurrence { rrule: rule.to_string(), basis: basis.into(), ..Recurrence::default() });
    }
    Some(())
}

fn parse_date(text: &str) -> Option<Date> {
    text.parse().ok().filter(|date: &Date| date.to_string() == text && date.year() >= 1)
}

/// Parses a local time such as `2026-11-30 14:00`.
fn parse_time(text: &str, zone: &str) -> Option<prost_types::Timestamp> {
    let (date, _) = text.split_once([' ', 'T'])?;
    parse_date(date)?;
    let local: DateTime = text.replace(' ', "T").parse().ok()?;
    instant(local, zone)
}

impl RecurringDate {
    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let text = text.to_ascii_lowercase().replace([',', '&'], " , ").replace('@', " at ");
        let mut words = text.split_whitespace().map(|word| if word == "and" { "," } else { word }).peekable();
        let mut rest = Vec::new();
        let basis = match words.next()? {
            "every" | "ev" => Basis::Due,
            "every!" | "ev!" => Basis::Completion,
            // A number of days, weeks or months after the completion.
            "after" if words.peek()?.parse::<u16>().is_ok() => Basis::Completion,
            adverb => {
                rest.push(ADVERBS.into_iter().find(|(known, _)| *known == adverb)?.1);
                Basis::Due
            }
        };
        let (mut time, mut start, mut end) = (None, None, None);
        while let Some(word) = words.next() {
            match word {
                "at" => set_once(&mut time, clock_time(words.next()?, &mut words)?)?,
                "starting" | "from" => set_once(&mut start, parse_date(words.next()?)?)?,
                "ending" | "until" => set_once(&mut end, parse_date(words.next()?)?)?,
                word if is_time(word, words.peek()) => set_once(&mut time, clock_time(word, &mut words)?)?,
                word => rest.push(word),
            }
        }
        if rest.is_empty() && time.is_some() {
            // `every morning`
            rest.push("day");
        }
        let end = end.map(|end: Date| end.strftime(";UNTIL=%Y%m%d").to_string()).unwrap_or_default();
        let rule = todoist_rule::rule(&rest)?;
        Some(Self { rule: Rule::parse(&format!("{rule}{end}")).ok()?, basis, time, start })
    }
}

fn set_once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// Reports whether a word is a time although it does not follow `at`.
fn is_time(word: &str, next: Option<&&str>) -> bool {
    let has_digit = word.starts_with(|character: char| character.is_ascii_digit());
    let is_clock = word.contains(':') || word.ends_with("am") || word.ends_with("pm");
    let is_followed = matches!(next, Some(&"am" | &"pm"));
    (has_digit && (is_clock || is_followed)) || DAY_TIMES.iter().any(|(name, _)| *name == word)
}

/// Parses a time such as `9am`, `9:30 pm`, `17:00` or `noon`.
fn clock_time<'a>(word: &'a str, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<Time> {
    if let Some((_, hour)) = DAY_TIMES.into_iter().find(|(name, _)| *name == word) {
        return Time::new(hour, 0, 0, 0).ok();
    }
    let (clock, half) = match word.strip_suffix("am").or_else(|| word.strip_suffix("pm")) {
        Some(clock) => (clock, Some(&word[clock.len()..])),
        None => (word, words.next_if(|next| matches!(*next, "am" | "pm"))),
    };
    let (hour, minute) = match clock.split_once(':') {
        Some(parts) => parts,
        // `at 2300`
        None if clock.len() == 4 => clock.split_at_checked(2)?,
        None => (clock, "00"),
    };
    let is_number = |text: &str| matches!(text.len(), 1..=2) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) || minute.len() != 2 {
        return None;
    }
    let hour: i8 = hour.parse().ok()?;
    let hour = match half {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some("pm") => hour % 12 + 12,
        Some(_) => hour % 12,
    };
    Time::new(hour, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, Basis, Option<String>)> {
        let RecurringDate { rule, basis, time, .. } = RecurringDate::parse(text)?;
        Some((rule.to_string(), basis, time.map(|time| time.strftime("%H:%M").to_string())))
    }

    #[test]
    fn documented_forms_become_rules() {
        for (text, rule) in [
            ("every day", "FREQ=DAILY"),
            ("Daily", "FREQ=DAILY"),
            ("everyday", "FREQ=DAILY"),
            ("every 3 days", "FREQ=DAILY;INTERVAL=3"),
            ("every other day", "FREQ=DAILY;INTERVAL=2"),
            ("ev week", "FREQ=WEEKLY"),
            ("every 2 weeks", "FREQ=WEEKLY;INTERVAL=2"),
            ("every other fri", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR"),
            ("every mon, wed and Fri", "FREQ=WEEKLY;BYDAY=MO,WE,FR"),
            ("every tues & thurs", "FREQ=WEEKLY;BYDAY=TU,TH"),
            ("every weekday", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
            ("every workday", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
            ("every weekend", "FREQ=WEEKLY;BYDAY=SA"),
            ("monthly", "FREQ=MONTHLY"),
            ("every quarter", "FREQ=MONTHLY;INTERVAL=3"),
            ("every 15th", "FREQ=MONTHLY;BYMONTHDAY=15"),
            ("every 27", "FREQ=MONTHLY;BYMONTHDAY=27"),
            ("every 2, 15, 27", "FREQ=MONTHLY;BYMONTHDAY=2,15,27"),
            ("every last day", "FREQ=MONTHLY;BYMONTHDAY=-1"),
            ("every 2nd tuesday", "FREQ=MONTHLY;BYDAY=2TU"),
            ("every first monday, last friday", "FREQ=MONTHLY;BYDAY=-1FR,1MO"),
            ("every 15th workday, first workday, last workday", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1,1,15"),
            ("yearly", "FREQ=YEARLY"),
            ("every other year", "FREQ=YEARLY;INTERVAL=2"),
            ("every jan 5", "FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=5"),
            ("every 27th of January", "FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=27"),
            ("every 1 jan, 1 jul", "FREQ=YEARLY;BYMONTH=1,7;BYMONTHDAY=1"),
            ("every 1st wed jan", "FREQ=YEARLY;BYMONTH=1;BYDAY=1WE"),
            ("every day until 2026-12-31", "FREQ=DAILY;UNTIL=20261231"),
        ] {
            assert_eq!(parsed(text), Some((rule.to_owned(), Basis::Due, None)), "{text}");
        }
        for (text, rule) in [
            ("every! 2 weeks", "FREQ=WEEKLY;INTERVAL=2"),
            ("ev! mon", "FREQ=WEEKLY;BYDAY=MO"),
            ("after 10 days", "FREQ=DAILY;INTERVAL=10"),
        ] {
            assert_eq!(parsed(text), Some((rule.to_owned(), Basis::Completion, None)), "{text}");
        }
    }

    #[test]
    fn documented_times_are_parsed() {
        for (text, time) in [
            ("every day at 9am", "09:00"),
            ("every day at 17:00", "17:00"),
            ("every day @ 9:30 pm", "21:30"),
            ("every day 12am", "00:00"),
            ("every day 7 am", "07:00"),
            ("every day at 9", "09:00"),
            ("every day at 2300", "23:00"),
            ("every day at noon", "12:00"),
            ("every morning", "09:00"),
            ("every afternoon", "12:00"),
            ("every evening", "19:00"),
            ("every night", "22:00"),
        ] {
            assert_eq!(parsed(text), Some(("FREQ=DAILY".to_owned(), Basis::Due, Some(time.to_owned()))), "{text}");
        }
    }

    #[test]
    fn what_is_no_known_form_is_not_guessed() {
        for text in [
            "",
            "every",
            "today",
            "tomorrow at 9am",
            "every hour",
            "every! 3 hours",
            "every 0 days",
            "every 3 workdays",
            "every other workday",
            "every 32nd",
            "every 3 fridays",
            "every mon, 15th",
            "every 14 jan, 15 jun",
            "every day at 25:00",
            "every day at 13pm",
            "every day at 9am at 5pm",
            "every mon at 9am, tue at 5pm",
            "every day for 3 weeks",
            "every day starting friday",
            "every day except monday",
            "after work",
            "jeden Tag",
            &"every mon, ".repeat(30),
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn first_date_is_on_or_after_the_day_of_the_import_in_the_time_zone() {
        // A Tuesday in Berlin, and a Monday in New York.
        let now = "2026-11-30T23:30:00Z".parse().expect("a time");
        let due =
            |task: &mut Task, text: &str, zone: &str| set_due(task, text, zone, now, &mut SearchBudget::default());
        for (text, zone, date) in [
            ("every day", "", "2026-11-30"),
            ("every day", "Europe/Berlin", "2026-12-01"),
            ("every tuesday", "Europe/Berlin", "2026-12-01"),
            ("every tuesday", "America/New_York", "2026-12-01"),
            ("every monday", "America/New_York", "2026-11-30"),
            ("every monday", "Europe/Berlin", "2026-12-07"),
            ("every last day", "Europe/Berlin", "2026-12-31"),
            ("every 10 days starting 2026-11-25", "", "2026-12-05"),
            ("every 10 days starting 2027-01-01", "", "2027-01-01"),
        ] {
            let mut task = Task::default();
            assert_eq!(due(&mut task, text, zone), Some(()), "{text}");
            assert_eq!((&*task.due_date, task.due_time), (date, None), "{text}");
        }
        let mut task = Task::default();
        due(&mut task, "every day at 9am", "Europe/Berlin").expect("a date");
        let nine = "2026-12-01T08:00:00Z".parse::<Timestamp>().expect("a time");
        assert_eq!(
            (task.due_time.map(|time| time.seconds), &*task.time_zone),
            (Some(nine.as_second()), "Europe/Berlin")
        );
        // A time without a time zone, and a series that has ended.
        assert_eq!(due(&mut Task::default(), "every day at 9am", ""), None);
        assert_eq!(due(&mut Task::default(), "every day until 2026-11-29", ""), None);
    }
}
