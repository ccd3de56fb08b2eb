//! Random recurring dates, patterns and alarms: whatever they are, the file can be imported.

use proptest::{
    collection::vec,
    option,
    prelude::{Strategy, any},
    prop_assert, proptest,
    sample::select,
};
use serde_json::{Value, json};
use service_kit::clock::Timestamp;

use super::{entry::Entry, plan::Plan, read};
use crate::model::file::ImportFormat;

/// The words of recurring dates, some of which are not known.
const WORDS: [&str; 44] = [
    "day",
    "days",
    "week",
    "month",
    "months",
    "quarter",
    "year",
    "weekday",
    "workday",
    "weekend",
    "mon",
    "tuesday",
    "fridays",
    "jan",
    "feb",
    "december",
    "1st",
    "2nd",
    "5th",
    "30th",
    "31",
    "29",
    "0",
    "99",
    "1000",
    "first",
    "last",
    "other",
    "of",
    ",",
    "and",
    "at",
    "9am",
    "24:00",
    "02:30",
    "noon",
    "morning",
    "starting",
    "until",
    "2026-03-28",
    "0001-01-01",
    "9999-12-31",
    "for",
    "ü",
];

/// The properties of alarms and of their tasks.
const DATES: [&str; 8] = [
    "DUE:20300501T100000Z",
    "DUE;VALUE=DATE:00010101",
    "DUE;TZID=Europe/Berlin:99991231T235959",
    "DUE:20300501T100000",
    "DTSTART:00010101T000000Z",
    "DTSTART;VALUE=DATE:99991231",
    "RRULE:FREQ=MONTHLY;BYMONTHDAY=31",
    "X-TASKEY-TIME-ZONE:America/Santiago",
];
const TRIGGERS: [&str; 9] = [
    "TRIGGER:-PT15M",
    "TRIGGER;RELATED=END:P1D",
    "TRIGGER;RELATED=END:-P4000W",
    "TRIGGER:P99999999W",
    "TRIGGER;VALUE=DATE-TIME:00010101T000000Z",
    "TRIGGER;VALUE=DATE-TIME:99991231T235960Z",
    "TRIGGER;RELATED=START:-PT9223372036854775807S",
    "TRIGGER;VALUE=DATE-TIME:20300501",
    "TRIGGER:",
];
const ALARM: [&str; 8] = [
    "ACTION:DISPLAY",
    "ACTION:NONE",
    "UID:9f4a7c31-29d3-4c0b-9c6b-0e0a2f7b5d11",
    "UID:1",
    "ACKNOWLEDGED:20200501T100500Z",
    "ACKNOWLEDGED:99991231T235959Z",
    "X-TASKEY-FIRE-TIME:00010101T000000Z",
    "X-APPLE-PROXIMITY:ARRIVE",
];

/// Reports whether a file with one task can be imported.
fn is_importable(file: &str, format: ImportFormat) -> bool {
    let Ok(entries) = read::entries(file.as_bytes(), format) else { return false };
    let mut plan = Plan::default();
    for entry in entries.clone() {
        plan.add(entry);
    }
    plan.resolve_parents();
    let mut tasks =
        entries.into_iter().filter_map(|entry| if let Entry::Task(task) = entry { Some(*task) } else { None });
    let is_created = |task| plan.new_task(0, task, None, Timestamp::from_seconds(0)).is_some();
    plan.report.check().is_ok() && tasks.next().is_some_and(is_created)
}

fn lines(values: &'static [&'static str], max: usize) -> impl Strategy<Value = String> {
    vec(select(values), 0..=max).prop_map(|lines| lines.iter().flat_map(|line| [*line, "\n"]).collect())
}

fn pattern() -> impl Strategy<Value = Value> {
    let kind =
        select(vec!["daily", "weekly", "absoluteMonthly", "relativeMonthly", "absoluteYearly", "relativeYearly"]);
    let days = vec(select(vec!["monday", "friday", "sunday", "someday"]), 0..4);
    let index = select(vec!["first", "fourth", "last", "fifth"]);
    (kind, days, index, 0..40_u64, 0..14_u64, 0..1200_u64).prop_map(|(kind, days, index, day, month, interval)| {
        json!({"type": kind, "daysOfWeek": days, "index": index, "dayOfMonth": day, "month": month, "interval": interval})
    })
}

fn range() -> impl Strategy<Value = Value> {
    let dates = vec!["0001-01-01", "2030-02-28", "9999-12-31", "soon"];
    let kind = select(vec!["noEnd", "endDate", "numbered"]);
    (kind, select(dates.clone()), select(dates), 0..1100_u64).prop_map(|(kind, start, end, count)| {
        json!({"type": kind, "startDate": start, "endDate": end, "numberOfOccurrences": count})
    })
}

proptest! {
    #[test]
    fn file_with_any_recurring_date_of_todoist_can_be_imported(
        prefix in select(vec!["every", "every!", "after", "daily"]),
        words in vec(select(&WORDS[..]), 0..7),
        zone in select(vec!["", "Europe/Berlin", "Pacific/Apia", "Mars/Base"]),
    ) {
        let date = format!("{prefix} {}", words.join(" "));
        let file = format!("TYPE,CONTENT,INDENT,DATE,TIMEZONE\ntask,x,1,\"{date}\",{zone}\n");
        prop_assert!(is_importable(&file, ImportFormat::TodoistCsv), "{}", file);
    }

    #[test]
    fn file_with_any_pattern_of_microsoft_to_do_can_be_imported(
        pattern in pattern(),
        range in range(),
        due in option::of(select(vec!["2030-05-31", "9999-12-31"])),
        reminder in option::of(select(vec!["0001-01-01T00:00:00", "2030-05-31T09:00:00", "9999-12-31T23:59:59"])),
        zone in select(vec!["UTC", "Asia/Tokyo", "Tokyo Standard Time"]),
        is_on in any::<bool>(),
    ) {
        let task = json!({
            "id": "a",
            "title": "x",
            "dueDateTime": due.map(|date| json!({"dateTime": format!("{date}T00:00:00"), "timeZone": zone})),
            "isReminderOn": is_on,
            "reminderDateTime": reminder.map(|time| json!({"dateTime": time, "timeZone": zone})),
            "recurrence": {"pattern": pattern, "range": range},
        });
        let file = json!([{"id": "l", "displayName": "Errands", "tasks": [task]}]).to_string();
        prop_assert!(is_importable(&file, ImportFormat::MicrosoftTodo), "{}", file);
    }

    #[test]
    fn file_with_any_alarms_can_be_imported(
        dates in lines(&DATES, 3),
        alarms in vec((lines(&TRIGGERS, 2), lines(&ALARM, 4)), 0..8),
    ) {
        let alarms = alarms.iter().flat_map(|(trigger, alarm)| ["BEGIN:VALARM\n", trigger, alarm, "END:VALARM\n"]);
        let task = format!("BEGIN:VTODO\nSUMMARY:x\n{dates}{}END:VTODO\n", alarms.collect::<String>());
        let file = format!("BEGIN:VCALENDAR\n{task}END:VCALENDAR\n");
        prop_assert!(is_importable(&file, ImportFormat::ICalendar), "{}", file);
    }
}
