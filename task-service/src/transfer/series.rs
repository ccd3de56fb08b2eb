//! The state of series in files: an object such as `{"anchor":"2027-01-31","slot":"2027-02-28","number":2}`.

use serde_json::{Map, Value, json};
use service_kit::status::Violations;
use taskey_proto::task::v1::{Reminder, Task};
use uuid::Uuid;

use super::fields::FIELDS;
use crate::{
    model::{
        field::{self, FieldError, Labels, Notes, Priority, Title},
        recurrence::{Originals, SeriesState, Slot},
        reminder,
    },
    request,
    response::pb_reminder,
};

/// The name of the state in JSON, and of its column in CSV.
pub(crate) const SERIES: &str = "series";

/// What is wrong with an object that is no state.
const INVALID: FieldError = "must be an object with anchor, slot, number and valid originals, as in an exported file";

/// The names of the fields that can have originals, in JSON.
const ORIGINALS: [&str; 6] = ["title", "notes", "priority", "timeZone", "labels", "reminders"];

/// Returns a state as an object.
pub(crate) fn to_json(series: &SeriesState) -> Value {
    let SeriesState { anchor, slot, number, originals } = series;
    let mut value = json!({"anchor": anchor.to_string(), "slot": slot.to_string(), "number": number});
    if *originals != Originals::default() {
        value["originals"] = originals_to_json(originals.clone());
    }
    value
}

/// Returns the originals with their names in JSON. Those with the default value are null.
fn originals_to_json(originals: Originals) -> Value {
    let Originals { title, notes, priority, time_zone, labels, reminders } = originals;
    let is_set = [
        title.is_some(),
        notes.is_some(),
        priority.is_some(),
        time_zone.is_some(),
        labels.is_some(),
        reminders.is_some(),
    ];
    let task = Task {
        title: title.unwrap_or_default(),
        notes: notes.unwrap_or_default(),
        priority: priority.unwrap_or_default(),
        time_zone: time_zone.unwrap_or_default(),
        labels: Labels::split_stored(&labels.unwrap_or_default()).map(str::to_owned).collect(),
        reminders: reminder::parse(&reminders.unwrap_or_default()).map(pb_reminder).collect(),
        ..Task::default()
    };
    let names: Vec<_> = ORIGINALS.iter().zip(is_set).filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    let fields = FIELDS.iter().filter(|field| names.contains(&field.json_name));
    fields.map(|field| (field.json_name.to_owned(), (field.get)(&task))).collect()
}

/// Parses an object or, in CSV and iCalendar, its text.
///
/// # Errors
/// A message to be read after the name of the state.
pub(crate) fn parse(value: Value) -> Result<SeriesState, FieldError> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or_default(),
        value => value,
    };
    value.as_object().and_then(parse_fields).ok_or(INVALID)
}

fn parse_fields(fields: &Map<String, Value>) -> Option<SeriesState> {
    let is_known = |name: &String| ["anchor", "slot", "number", "originals"].contains(&name.as_str());
    if !fields.keys().all(is_known) {
        return None;
    }
    let number: u32 = fields.get("number")?.as_u64()?.try_into().ok()?;
    Some(SeriesState {
        anchor: slot(fields.get("anchor")?)?,
        slot: slot(fields.get("slot")?)?,
        number: number.try_into().ok()?,
        originals: fields.get("originals").map_or(Some(Originals::default()), originals)?,
    })
}

/// Parses a day or a time with at most microseconds, which is written as in an export.
fn slot(value: &Value) -> Option<Slot> {
    let text = value.as_str()?;
    let slot = Slot::try_from(text.to_owned()).ok().filter(|slot| slot.to_string() == text)?;
    let civil = slot.to_civil();
    (civil.year() >= 0 && civil.subsec_nanosecond() % 1000 == 0).then_some(slot)
}

fn originals(value: &Value) -> Option<Originals> {
    let (fields, mut task) = (value.as_object()?, Task::default());
    for (name, value) in fields {
        let field = FIELDS.iter().find(|field| field.json_name == name && ORIGINALS.contains(&field.json_name))?;
        if !value.is_null() {
            (field.set)(&mut task, value.clone()).ok()?;
        }
    }
    let has = |name: &str| fields.contains_key(name);
    Some(Originals {
        title: checked(has("title"), Title::try_from(task.title).map(Title::into_text)).ok()?,
        notes: checked(has("notes"), Notes::try_from(task.notes).map(Notes::into_text)).ok()?,
        priority: checked(has("priority"), Priority::try_from(task.priority).map(i32::from)).ok()?,
        time_zone: checked(has("timeZone"), field::time_zone(task.time_zone)).ok()?,
        labels: checked(has("labels"), Labels::try_from(task.labels).map(|labels| labels.to_stored())).ok()?,
        reminders: checked(has("reminders"), reminders(&task.reminders)).ok()?,
    })
}

/// Returns the stored form of reminders as the next occurrence has them: relative ones with an id, which have not fired.
fn reminders(reminders: &[Reminder]) -> Result<String, FieldError> {
    let parsed = request::reminder::parse("", reminders, &mut Violations::default()).ok_or(INVALID)?;
    let stored = reminder::replace("", &parsed, Uuid::nil(), true);
    let is_renewed = parsed.iter().all(|reminder| reminder.id.is_some()) && reminder::renew(&stored) == stored;
    if is_renewed { Ok(stored) } else { Err(INVALID) }
}

/// Returns a value if it is set.
fn checked<T>(is_set: bool, value: Result<T, FieldError>) -> Result<Option<T>, FieldError> {
    is_set.then_some(value).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_equal_after_a_round_trip() {
        for text in [
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2}"#,
            r#"{"anchor":"2027-01-31T09:00:00.000001","slot":"2027-01-31T09:00:00","number":4294967295}"#,
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2,"originals":{"title":"Pay, \"now\""}}"#,
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2,"originals":{"notes":null,"priority":"PRIORITY_LOW",
                "timeZone":"Europe/Berlin","labels":["a","b c"]}}"#,
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2,"originals":{"priority":null,"timeZone":null,"labels":null}}"#,
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2,"originals":{"reminders":
                [{"id":"0198c0de-0000-7000-8000-00000000000a","beforeDue":"900s"}]}}"#,
            r#"{"anchor":"2027-01-31","slot":"2027-02-28","number":2,"originals":{"reminders":null}}"#,
        ] {
            let expected: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(parse(text.into()).as_ref().map(to_json), Ok(expected.clone()));
            assert_eq!(parse(expected.clone()).as_ref().map(to_json), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let valid = json!({"anchor": "2027-01-31", "slot": "2027-02-28", "number": 2});
        for (name, value) in [
            ("anchor", json!(null)),
            ("anchor", json!("31.1.2027")),
            ("anchor", json!("20270131")),
            ("slot", json!("2027-02-28T09:00:00+01:00")),
            ("slot", json!("2027-02-28T09:00:00.000000001")),
            ("slot", json!("-009999-01-01")),
            ("number", json!(0)),
            ("number", json!(-1)),
            ("number", json!(4_294_967_296_u64)),
            ("number", json!("2")),
            ("color", json!("red")),
            ("originals", json!([])),
            ("originals", json!({"title": null})),
            ("originals", json!({"title": "x".repeat(201)})),
            ("originals", json!({"timeZone": "Mars/Base"})),
            ("originals", json!({"labels": ["a", "A"]})),
            ("originals", json!({"dueDate": "2027-01-31"})),
            ("originals", json!({"reminders": [{"beforeDue": "900s"}]})),
            (
                "originals",
                json!({"reminders": [{"id": "0198c0de-0000-7000-8000-00000000000a", "remindTime": "2090-01-01T00:00:00Z"}]}),
            ),
        ] {
            let mut invalid = valid.clone();
            invalid[name] = value;
            assert_eq!(parse(invalid.clone()), Err(INVALID), "{invalid}");
        }
        for invalid in [json!([]), json!("{}"), json!("{\"anchor\""), json!(5)] {
            assert_eq!(parse(invalid.clone()), Err(INVALID), "{invalid}");
        }
    }
}
