//! The fields of tasks in JSON Lines and CSV. A new field of `Task` is one entry of [`FIELDS`] or of [`OMITTED`].

use jiff::{SignedDuration, civil::DateTime};
use serde_json::Value;
use taskey_proto::task::v1::{
    Task,
    task::{Priority, State},
};

/// A field in files.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    /// The name in the contract, and of the column in CSV.
    pub(crate) name: &'static str,
    /// The name in JSON.
    pub(crate) json_name: &'static str,
    /// Returns the value in JSON, or null if it is the default.
    pub(crate) get: fn(&Task) -> Value,
}

/// The fields in files, in their order.
pub(crate) const FIELDS: [Field; 13] = [
    field("id", "id", |task| text(&task.id)),
    // Files name the default list by an empty id, because its id is that of the owner.
    field("list_id", "listId", |task| if task.list_id == task.owner_id { Value::Null } else { text(&task.list_id) }),
    field("parent_id", "parentId", |task| text(&task.parent_id)),
    field("title", "title", |task| text(&task.title)),
    field("notes", "notes", |task| text(&task.notes)),
    field("state", "state", |task| match task.state() {
        State::Completed => State::Completed.as_str_name().into(),
        _ => Value::Null,
    }),
    field("priority", "priority", |task| match task.priority() {
        Priority::Unspecified => Value::Null,
        priority => priority.as_str_name().into(),
    }),
    field("due_date", "dueDate", |task| text(&task.due_date)),
    field("due_time", "dueTime", |task| time(task.due_time)),
    field("time_zone", "timeZone", |task| text(&task.time_zone)),
    field("labels", "labels", |task| texts(&task.labels)),
    field("create_time", "createTime", |task| time(task.create_time)),
    field("complete_time", "completeTime", |task| time(task.complete_time)),
];

/// The fields that are not in files, because they belong to one copy of the task: its owner, its versions, its deletion,
/// and its rank, which the order of the tasks replaces.
#[cfg(test)]
const OMITTED: [&str; 6] = ["owner_id", "update_time", "delete_time", "purge_time", "etag", "rank"];

const fn field(name: &'static str, json_name: &'static str, get: fn(&Task) -> Value) -> Field {
    Field { name, json_name, get }
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

/// 1970-01-01T00:00:00.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Formats a time of the years 1 to 9999 as in RFC 3339, with as many digits as needed.
pub(crate) fn format_time(time: prost_types::Timestamp) -> String {
    format!("{}Z", EPOCH.saturating_add(SignedDuration::new(time.seconds, time.nanos)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message;
    use prost_types::{FileDescriptorSet, Timestamp};

    use super::*;

    #[test]
    fn times_have_as_many_digits_as_needed() {
        for (seconds, nanos, text) in [
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            (1_800_000_000, 123_456_000, "2027-01-15T08:00:00.123456Z"),
            (253_402_300_799, 999_999_000, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(format_time(Timestamp { seconds, nanos }), text);
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
