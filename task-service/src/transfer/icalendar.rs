//! The format of iCalendar (RFC 5545): each task is a VTODO. What the standard has no property for has an `X-TASKEY-`
//! property.

use taskey_proto::task::v1::{
    Task, TaskList,
    reminder::Time,
    task::{Priority, State},
};

use super::{
    fields::{continuing_recurrence, format_time},
    series,
};
use crate::model::recurrence::SeriesState;

/// Maximum length of a line in bytes, without its line break. Longer ones are folded (section 3.1).
const MAX_LINE_BYTES: usize = 75;

/// The characters that a backslash must precede in a text.
const ESCAPED: [char; 3] = ['\\', ';', ','];

/// Appends the beginning of the calendar.
pub(crate) fn write_begin(file: &mut Vec<u8>) {
    for line in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Taskey//Taskey 1//EN"] {
        write_line(line, file);
    }
}

/// Appends the end of the calendar.
pub(crate) fn write_end(file: &mut Vec<u8>) {
    write_line("END:VCALENDAR", file);
}

/// Appends a task, and the state of the series that continues with it.
pub(crate) fn write_task(task: &Task, series: Option<&SeriesState>, list: &TaskList, file: &mut Vec<u8>) {
    let mut property = |name: &str, value: &str| {
        if !value.is_empty() {
            write_line(&format!("{name}:{value}"), file);
        }
    };
    let is_completed = task.state() == State::Completed;
    property("BEGIN", "VTODO");
    property("UID", &escape(&task.id));
    // Required (section 3.6.2). The time of the last update would differ in an imported copy.
    let times = [task.create_time, task.complete_time].into_iter().flatten();
    property("DTSTAMP", &date_time(times.max_by_key(|time| (time.seconds, time.nanos))));
    property("CREATED", &date_time(task.create_time));
    property("SUMMARY", &escape(&task.title));
    property("DESCRIPTION", &escape(&task.notes));
    property("DUE;VALUE=DATE", &task.due_date.replace('-', ""));
    property("DUE", &date_time(task.due_time));
    property("PRIORITY", priority(task.priority()));
    property("CATEGORIES", &task.labels.iter().map(|label| escape(label)).collect::<Vec<_>>().join(","));
    property("RELATED-TO", &escape(&task.parent_id));
    property("STATUS", if is_completed { "COMPLETED" } else { "NEEDS-ACTION" });
    property("COMPLETED", &date_time(task.complete_time));
    if let Some(recurrence) = continuing_recurrence(task) {
        property("RRULE", &recurrence.rrule);
        property("X-TASKEY-BASIS", recurrence.basis().as_str_name());
        property("X-TASKEY-CATCH-UP", recurrence.catch_up().as_str_name());
    }
    if let Some(series) = series {
        property("X-TASKEY-SERIES", &escape(&series::to_json(series).to_string()));
    }
    property("X-TASKEY-TIME-ZONE", &escape(&task.time_zone));
    property("X-TASKEY-LIST-ID", if list.is_default { "" } else { &list.id });
    property("X-TASKEY-LIST", &escape(&list.title));
    for reminder in &task.reminders {
        let (trigger, time) = match &reminder.time {
            Some(Time::BeforeDue(before)) => ("TRIGGER;RELATED=END", duration(-before.seconds)),
            Some(Time::RemindTime(time)) => ("TRIGGER;VALUE=DATE-TIME", date_time(Some(*time))),
            None => continue,
        };
        property("BEGIN", "VALARM");
        // RFC 9074 has added these two.
        property("UID", &reminder.id);
        property("ACKNOWLEDGED", &date_time(reminder.acknowledge_time));
        property("ACTION", "DISPLAY");
        property("DESCRIPTION", &escape(&task.title));
        property(trigger, &time);
        property("X-TASKEY-SNOOZE-TIME", &date_time(reminder.snooze_time));
        property("X-TASKEY-FIRE-TIME", &date_time(reminder.fire_time));
        property("X-TASKEY-LATE", if reminder.late { "TRUE" } else { "" });
        property("END", "VALARM");
    }
    property("END", "VTODO");
}

/// Returns a duration (section 3.3.6) in seconds.
fn duration(seconds: i64) -> String {
    format!("{}PT{}S", if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs())
}

/// Returns the priority of section 3.8.1.9, where 1 is the highest.
fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "1",
        Priority::Medium => "5",
        Priority::Low => "9",
        Priority::Unspecified => "",
    }
}

/// Returns a time in UTC in the form `20261130T235959Z`, which has no fractions of a second. Empty if there is none.
fn date_time(time: Option<prost_types::Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    let seconds = format_time(prost_types::Timestamp { nanos: 0, ..time });
    seconds.replace(['-', ':'], "")
}

/// Escapes a text (section 3.3.11).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' | '\r' => escaped.push_str("\\n"),
            character if ESCAPED.contains(&character) => escaped.extend(['\\', character]),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Appends a line, folded between characters.
fn write_line(line: &str, file: &mut Vec<u8>) {
    let mut rest = line;
    let mut max_bytes = MAX_LINE_BYTES;
    while rest.len() > max_bytes {
        let (start, end) = rest.split_at(rest.floor_char_boundary(max_bytes));
        file.extend_from_slice(start.as_bytes());
        file.extend_from_slice(b"\r\n ");
        // The space counts.
        (rest, max_bytes) = (end, MAX_LINE_BYTES - 1);
    }
    file.extend_from_slice(rest.as_bytes());
    file.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn long_lines_are_folded_between_characters() {
        let line = format!("SUMMARY:{}", "ü€😀".repeat(40));
        let mut file = Vec::new();
        write_line(&line, &mut file);
        let text = String::from_utf8(file).expect("no character is split");
        assert!(text.split("\r\n").all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(text.replace("\r\n ", "").trim_end(), line);
    }

    #[test]
    fn separators_and_line_breaks_are_escaped() {
        assert_eq!(escape("a,b;c\\d\r\ne\nf\rg:\""), "a\\,b\\;c\\\\d\\ne\\nf\\ng:\"");
    }

    #[test]
    fn times_are_whole_seconds_in_utc() {
        assert_eq!(date_time(Some(Timestamp { seconds: 1_800_000_000, nanos: 999_999_000 })), "20270115T080000Z");
        assert_eq!(date_time(Some(Timestamp { seconds: -62_135_596_800, nanos: 0 })), "00010101T000000Z");
        assert_eq!(date_time(None), "");
    }
}
