//! The fields of tasks in JSON Lines and CSV. A new field of `Task` is one entry of [`FIELDS`] or of [`OMITTED`].

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value, json};
use service_kit::clock;
use taskey_proto::task::v1::{
    Recurrence, Reminder, Task,
    recurrence::{Basis, CatchUp},
    reminder::Time,
    task::{Priority, State},
};

use crate::model::field::FieldError;

/// A field in files.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    /// The name in the contract, and of the column in CSV.
    pub(crate) name: &'static str,
    /// The name in JSON.
    pub(crate) json_name: &'static str,
    /// Whether the value is a list.
    pub(crate) is_list: bool,
    /// Returns the value in JSON, or null if it is the default.
    pub(crate) get: fn(&Task) -> Value,
    /// Sets the field to a value in JSON.
    pub(crate) set: fn(&mut Task, Value) -> Result<(), FieldError>,
}

/// The fields in files, in their order.
pub(crate) const FIELDS: [Field; 16] = [
    field("id", "id", |task| text(&task.id), |task, value| set_text(&mut task.id, value)),
    // Files name the default list by an empty id, because its id is that of the owner.
    field(
        "list_id",
        "listId",
        |task| if task.list_id == task.owner_id { Value::Null } else { text(&task.list_id) },
        |task, value| set_text(&mut task.list_id, value),
    ),
    field("parent_id", "parentId", |task| text(&task.parent_id), |task, value| set_text(&mut task.parent_id, value)),
    field("title", "title", |task| text(&task.title), |task, value| set_text(&mut task.title, value)),
    field("notes", "notes", |task| text(&task.notes), |task, value| set_text(&mut task.notes, value)),
    field(
        "state",
        "state",
        |task| match task.state() {
            State::Completed => State::Completed.as_str_name().into(),
            _ => Value::Null,
        },
        |task, value| {
            task.state = named(&value, "STATE_", State::from_str_name).ok_or("must be OPEN or COMPLETED")?.into();
            Ok(())
        },
    ),
    field(
        "priority",
        "priority",
        |task| match task.priority() {
            Priority::Unspecified => Value::Null,
            priority => priority.as_str_name().into(),
        },
        |task, value| {
            let priority = named(&value, "PRIORITY_", Priority::from_str_name);
            task.priority = priority.ok_or("must be LOW, MEDIUM or HIGH")?.into();
            Ok(())
        },
    ),
    field("due_date", "dueDate", |task| text(&task.due_date), |task, value| set_text(&mut task.due_date, value)),
    field("due_time", "dueTime", |task| time(task.due_time), |task, value| set_time(&mut task.due_time, &value)),
    field("time_zone", "timeZone", |task| text(&task.time_zone), |task, value| set_text(&mut task.time_zone, value)),
    Field {
        is_list: true,
        ..field(
            "labels",
            "labels",
            |task| texts(&task.labels),
            |task, value| {
                let texts = value.as_array().into_iter().flatten().map(|text| Some(text.as_str()?.to_owned()));
                let labels = texts.collect::<Option<_>>().filter(|_| value.is_array());
                task.labels = labels.ok_or("must be a list of texts")?;
                Ok(())
            },
        )
    },
    field(
        "create_time",
        "createTime",
        |task| time(task.create_time),
        |task, value| set_time(&mut task.create_time, &value),
    ),
    field(
        "complete_time",
        "completeTime",
        |task| time(task.complete_time),
        |task, value| set_time(&mut task.complete_time, &value),
    ),
    field("source_id", "sourceId", |task| text(&task.source_id), |task, value| set_text(&mut task.source_id, value)),
    field(
        "recurrence",
        "recurrence",
        |task| match continuing_recurrence(task) {
            Some(recurrence) => json!({
                "rrule": recurrence.rrule,
                "basis": recurrence.basis().as_str_name(),
                "catchUp": recurrence.catch_up().as_str_name(),
            }),
            None => Value::Null,
        },
        set_recurrence,
    ),
    Field {
        is_list: true,
        ..field("reminders", "reminders", |task| reminders(&task.reminders), |task, value| set_reminders(task, &value))
    },
];

/// Returns how a task recurs, unless the next occurrence exists already: that one recurs further.
pub(crate) fn continuing_recurrence(task: &Task) -> Option<&Recurrence> {
    task.recurrence.as_ref().filter(|_| task.next_task_id.is_empty())
}

/// The fields that are not in files, because they belong to one copy of the task: its owner, its versions, its deletion,
/// the id of its series, and its rank, which the order of the tasks replaces. The state of the series replaces its date.
#[cfg(test)]
const OMITTED: [&str; 10] = [
    "owner_id",
    "update_time",
    "delete_time",
    "purge_time",
    "etag",
    "rank",
    "recurrence_text",
    "series_id",
    "occurrence_date",
    "next_task_id",
];

const fn field(
    name: &'static str,
    json_name: &'static str,
    get: fn(&Task) -> Value,
    set: fn(&mut Task, Value) -> Result<(), FieldError>,
) -> Field {
    Field { name, json_name, is_list: false, get, set }
}

/// Returns the enum value with a name, with or without its prefix.
fn named<E>(value: &Value, prefix: &str, from_name: fn(&str) -> Option<E>) -> Option<E> {
    let name = value.as_str()?;
    from_name(&format!("{prefix}{}", name.trim_start_matches(prefix)))
}

fn set_text(field: &mut String, value: Value) -> Result<(), FieldError> {
    match value {
        Value::String(text) => *field = text,
        _ => return Err("must be a text"),
    }
    Ok(())
}

fn set_recurrence(task: &mut Task, value: Value) -> Result<(), FieldError> {
    let object = match value {
        // In CSV, the object is a text.
        Value::String(text) => serde_json::from_str(&text).unwrap_or_default(),
        value => value,
    };
    task.recurrence = Some(parse_recurrence(&object).ok_or("must be an object with rrule, basis and catchUp")?);
    Ok(())
}

fn parse_recurrence(value: &Value) -> Option<Recurrence> {
    let mut recurrence = Recurrence::default();
    for (name, value) in value.as_object()? {
        match name.as_str() {
            "rrule" => value.as_str()?.clone_into(&mut recurrence.rrule),
            "basis" => recurrence.basis = named(value, "BASIS_", Basis::from_str_name)?.into(),
            "catchUp" => recurrence.catch_up = named(value, "CATCH_UP_", CatchUp::from_str_name)?.into(),
            _ => return None,
        }
    }
    Some(recurrence)
}

fn set_time(field: &mut Option<prost_types::Timestamp>, value: &Value) -> Result<(), FieldError> {
    let time = value.as_str().and_then(parse_time);
    *field = Some(time.ok_or("must be a time such as 2026-11-30T08:00:00Z")?);
    Ok(())
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn texts(texts: &[String]) -> Value {
    if texts.is_empty() { Value::Null } else { texts.into() }
}

fn time(time: Option<prost_types::Timestamp>) -> Value {
    time.map_or(Value::Null, |time| format_time(time).into())
}

/// Sets the reminders to a list of objects or, in CSV, of their texts.
fn set_reminders(task: &mut Task, value: &Value) -> Result<(), FieldError> {
    let values = value.as_array().ok_or("must be a list of reminders")?;
    task.reminders = values.iter().map(parse_reminder).collect::<Result<_, _>>()?;
    Ok(())
}

fn parse_reminder(value: &Value) -> Result<Reminder, FieldError> {
    let parsed = value.as_str().map(serde_json::from_str).transpose().map_err(|_| "must be JSON objects")?;
    let fields = parsed.as_ref().unwrap_or(value).as_object().ok_or("must be JSON objects")?;
    let mut reminder = Reminder::default();
    for (name, value) in fields {
        match name.as_str() {
            "id" => set_text(&mut reminder.id, value.clone())?,
            "remindTime" => {
                let mut time = None;
                set_time(&mut time, value)?;
                reminder.time = time.map(Time::RemindTime);
            }
            "beforeDue" => {
                let seconds = value.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
                let seconds = seconds.ok_or("must have durations such as 900s")?;
                reminder.time = Some(Time::BeforeDue(prost_types::Duration { seconds, nanos: 0 }));
            }
            "snoozeTime" => set_time(&mut reminder.snooze_time, value)?,
            "fireTime" => set_time(&mut reminder.fire_time, value)?,
            "late" => reminder.late = value.as_bool().unwrap_or_default(),
            "acknowledgeTime" => set_time(&mut reminder.acknowledge_time, value)?,
            _ => return Err("must have only the fields of reminders"),
        }
    }
    Ok(reminder)
}

fn reminders(reminders: &[Reminder]) -> Value {
    if reminders.is_empty() { Value::Null } else { reminders.iter().map(reminder).collect() }
}

/// Returns a reminder in JSON, without the fields that are not set.
fn reminder(reminder: &Reminder) -> Value {
    let (remind_time, before_due) = match &reminder.time {
        Some(Time::RemindTime(at)) => (time(Some(*at)), Value::Null),
        Some(Time::BeforeDue(before)) => (Value::Null, format!("{}s", before.seconds).into()),
        None => (Value::Null, Value::Null),
    };
    let fields = [
        ("id", text(&reminder.id)),
        ("remindTime", remind_time),
        ("beforeDue", before_due),
        ("snoozeTime", time(reminder.snooze_time)),
        ("fireTime", time(reminder.fire_time)),
        ("late", if reminder.late { true.into() } else { Value::Null }),
        ("acknowledgeTime", time(reminder.acknowledge_time)),
    ];
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// 1970-01-01T00:00:00.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Formats a time of the years 1 to 9999 as in RFC 3339, with as many digits as needed.
pub(crate) fn format_time(time: prost_types::Timestamp) -> String {
    format!("{}Z", EPOCH.saturating_add(SignedDuration::new(time.seconds, time.nanos)))
}

/// Parses a time as in RFC 3339. Digits beyond microseconds are dropped.
pub(crate) fn parse_time(text: &str) -> Option<prost_types::Timestamp> {
    let instant = match text.strip_suffix('Z') {
        // The instants of jiff end before the year 9999 does.
        Some(local) => local.parse().ok()?,
        None => TimeZone::UTC.to_datetime(text.parse::<Timestamp>().ok()?),
    };
    Some(to_timestamp(instant))
}

/// Converts a time in UTC. Digits beyond microseconds are dropped.
pub(crate) fn to_timestamp(utc: DateTime) -> prost_types::Timestamp {
    let micros = utc.duration_since(EPOCH).as_micros();
    clock::Timestamp::from_micros(i64::try_from(micros).unwrap_or_default()).into()
}

/// Returns the instant of a local time in a zone of the IANA database. Skipped times are later, repeated ones the earlier.
pub(crate) fn instant(local: DateTime, zone: &str) -> Option<prost_types::Timestamp> {
    let instant = TimeZone::get(zone).ok()?.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(to_timestamp(TimeZone::UTC.to_datetime(instant)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn times_have_as_many_digits_as_needed() {
        for (seconds, nanos, text) in [
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            (1_800_000_000, 123_456_000, "2027-01-15T08:00:00.123456Z"),
            (253_402_300_799, 999_999_000, "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = prost_types::Timestamp { seconds, nanos };
            assert_eq!((&format_time(time)[..], parse_time(text)), (text, Some(time)));
        }
    }

    #[test]
    fn times_of_other_products_are_parsed() {
        let expected = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_456_000 });
        for text in ["2027-01-15T08:00:00.1234567Z", "2027-01-15T09:00:00.123456+01:00", "2027-01-15 08:00:00.123456Z"]
        {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in ["", "Z", "2027-01-15", "tomorrow", "2027-13-15T08:00:00Z", "2027-01-15T08:00:00"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn every_field_of_a_task_is_in_files_or_omitted_on_purpose() {
        let set = FileDescriptorSet::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the descriptors are valid");
        let messages = set.file.into_iter().filter(|file| file.package() == "taskey.task.v1");
        let mut messages = messages.flat_map(|file| file.message_type);
        let task = messages.find(|message| message.name() == "Task").expect("there are tasks");
        let fields: HashSet<_> = task.field.iter().map(|field| (field.name(), field.json_name())).collect();
        for field in FIELDS {
            assert!(fields.contains(&(field.name, field.json_name)), "{} is not a field of a task", field.name);
        }
        let listed: Vec<_> = FIELDS.iter().map(|field| field.name).chain(OMITTED).collect();
        for (name, _) in &fields {
            assert_eq!(listed.iter().filter(|listed| *listed == name).count(), 1, "{name}");
        }
        assert_eq!(listed.len(), fields.len());
    }
}
