//! The history of tasks: which fields a mutation has changed, from which value to which.

use std::borrow::Cow;

use service_kit::{
    clock::Timestamp,
    page::{self, PageTokens},
    status::ApiError,
};
use uuid::Uuid;

use super::{
    TaskRow,
    field::{Labels, Priority},
    mutation::{ChangedTask, Node},
    recurrence::{Occurrence, Recurrence},
    reminder::{self, Schedule},
};

/// Maximum number of characters of a stored value. A longer one is cut, and ends with `…`.
const MAX_VALUE_CHARS: usize = 1000;

/// A recorded field with its name in the API, and how to get its value.
type RecordedField = (&'static str, fn(&TaskRow) -> Cow<'_, str>);

/// The recorded fields. All others follow from these, or change with every update.
const FIELDS: [RecordedField; 17] = [
    ("title", |task| task.title.as_str().into()),
    ("notes", |task| task.notes.as_str().into()),
    ("priority", |task| priority_value(task.priority)),
    ("due_date", |task| task.due_date.as_deref().unwrap_or_default().into()),
    ("due_time", |task| time_value(task.due_time)),
    ("time_zone", |task| task.time_zone.as_str().into()),
    ("labels", |task| labels_value(&task.labels)),
    (LIST_ID, |task| id_value(Some(task.list_id))),
    ("parent_id", |task| id_value(task.parent_id)),
    ("rank", |task| task.rank.as_str().into()),
    (COMPLETE_TIME, |task| time_value(task.complete_time)),
    (DELETE_TIME, |task| time_value(task.delete_time)),
    ("recurrence", |task| series_value(task, |occurrence| recurrence_value(&occurrence.schedule.recurrence))),
    ("series_id", |task| series_value(task, |occurrence| occurrence.series_id.to_string())),
    ("occurrence_date", |task| series_value(task, |occurrence| occurrence.schedule.slot.date().to_string())),
    ("next_task_id", |task| series_value(task, |occurrence| id_value(occurrence.next_task_id).into_owned())),
    ("reminders", |task| reminders_value(&task.reminders)),
];

const LIST_ID: &str = "list_id";
const COMPLETE_TIME: &str = "complete_time";
const DELETE_TIME: &str = "delete_time";

/// A change of a field, with values as in JSON, but without quotation marks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FieldChange {
    /// Empty if the task was created.
    pub(crate) field: &'static str,
    pub(crate) old_value: String,
    pub(crate) new_value: String,
}

impl FieldChange {
    /// Returns the change of a field, or `None` if its value stays the same.
    fn new(field: &'static str, old: Cow<'_, str>, new: Cow<'_, str>) -> Option<Self> {
        (old != new).then(|| Self { field, old_value: shorten(old), new_value: shorten(new) })
    }

    /// Returns the change of a task that is moved to another list.
    pub(crate) fn list(old: Uuid, new: Uuid) -> Option<Self> {
        Self::new(LIST_ID, id_value(Some(old)), id_value(Some(new)))
    }

    /// Returns the change of a task that is deleted or undeleted.
    pub(crate) fn deletion(old: Option<Timestamp>, new: Option<Timestamp>) -> Option<Self> {
        Self::new(DELETE_TIME, time_value(old), time_value(new))
    }
}

/// Returns what a mutation has changed in a task. A creation is one change, whatever the values are.
pub(crate) fn changes(task: ChangedTask<'_>) -> Vec<FieldChange> {
    let Some(before) = task.before else { return vec![FieldChange::default()] };
    let change = |(field, value): &RecordedField| FieldChange::new(field, value(before), value(task.after));
    FIELDS.iter().filter_map(change).collect()
}

/// Returns what a mutation has changed in a relative of a task.
pub(crate) fn node_changes(before: Node, after: Node) -> impl Iterator<Item = FieldChange> {
    let completion = (time_value(before.complete_time), time_value(after.complete_time));
    let changes = [
        FieldChange::list(before.list_id, after.list_id),
        FieldChange::new(COMPLETE_TIME, completion.0, completion.1),
        FieldChange::deletion(before.delete_time, after.delete_time),
    ];
    changes.into_iter().flatten()
}

fn shorten(value: Cow<'_, str>) -> String {
    match value.char_indices().nth(MAX_VALUE_CHARS) {
        None => value.into_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
}

fn priority_value(number: i32) -> Cow<'static, str> {
    match Priority::try_from(number) {
        Ok(Priority::Unspecified) | Err(_) => "".into(),
        Ok(priority) => format!("PRIORITY_{}", priority.name()).into(),
    }
}

fn time_value(time: Option<Timestamp>) -> Cow<'static, str> {
    time.map(|time| prost_types::Timestamp::from(time).to_string()).unwrap_or_default().into()
}

fn id_value(id: Option<Uuid>) -> Cow<'static, str> {
    id.map(|id| id.to_string()).unwrap_or_default().into()
}

fn labels_value(stored: &str) -> Cow<'_, str> {
    if stored.is_empty() {
        return "".into();
    }
    Labels::split_stored(stored).collect::<serde_json::Value>().to_string().into()
}

fn series_value(task: &TaskRow, value: impl FnOnce(Occurrence) -> String) -> Cow<'_, str> {
    task.occurrence().map(value).unwrap_or_default().into()
}

fn recurrence_value(recurrence: &Recurrence) -> String {
    let Recurrence { rule, basis, catch_up } = recurrence;
    // A rule contains no character that JSON would escape.
    format!(r#"{{"rrule":"{rule}","basis":"{}","catchUp":"{}"}}"#, basis.name(), catch_up.name())
}

/// Returns what users have set of the reminders, without their firings.
fn reminders_value(stored: &str) -> Cow<'_, str> {
    if stored.is_empty() {
        return "".into();
    }
    let values = reminder::parse(stored).map(|reminder| {
        let mut value = match reminder.schedule {
            Schedule::At(time) => serde_json::json!({"remindTime": time_value(Some(time))}),
            Schedule::BeforeDue(seconds) => serde_json::json!({"beforeDue": format!("{seconds}s")}),
        };
        for (name, time) in [("snoozeTime", reminder.snooze_time), ("acknowledgeTime", reminder.acknowledge_time)] {
            if time.is_some() {
                value[name] = time_value(time).into();
            }
        }
        value
    });
    values.collect::<serde_json::Value>().to_string().into()
}

/// An entry of the history of a task.
#[derive(Clone, Debug)]
pub(crate) struct HistoryEntry {
    pub(crate) position: HistoryPosition,
    pub(crate) change_time: Timestamp,
    pub(crate) actor_id: Option<Uuid>,
    pub(crate) session_id: Option<Uuid>,
    pub(crate) old_value: String,
    pub(crate) new_value: String,
}

/// The position of an entry in the history of a task.
#[derive(Clone, Debug)]
pub(crate) struct HistoryPosition {
    /// The sequence number of the mutation.
    pub(crate) change: i64,
    pub(crate) field: String,
}

impl HistoryPosition {
    /// Returns the cursor of a page that ends with this entry.
    pub(crate) fn cursor(&self) -> Vec<u8> {
        [&self.change.to_be_bytes()[..], self.field.as_bytes()].concat()
    }

    fn from_cursor(cursor: &[u8]) -> Option<Self> {
        let (change, field) = cursor.split_first_chunk()?;
        Some(Self { change: i64::from_be_bytes(*change), field: String::from_utf8(field.to_vec()).ok()? })
    }
}

/// The parameters of `ListTaskHistory`.
#[derive(Clone, Debug)]
pub(crate) struct HistoryQuery {
    pub(crate) task_id: Uuid,
    /// 1 to [`page::MAX_SIZE`].
    pub(crate) page_size: usize,
    /// Empty for the first page.
    pub(crate) page_token: String,
}

impl HistoryQuery {
    /// Returns the parameters that must not change between pages, as bytes.
    pub(crate) fn arguments(&self) -> Vec<u8> {
        format!("history\0{}", self.task_id).into_bytes()
    }

    /// Returns the entry after which the page starts, or `None` for the first page.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not issued to this caller for this task.
    pub(crate) fn after(&self, tokens: &PageTokens, owner: Uuid) -> Result<Option<HistoryPosition>, ApiError> {
        let cursor = tokens.open(owner, &self.arguments(), &self.page_token)?;
        cursor.map(|cursor| HistoryPosition::from_cursor(&cursor).ok_or_else(page::invalid)).transpose()
    }
}
