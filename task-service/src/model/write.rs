//! Parsed writes to tasks.

use std::{fmt, sync::Arc};

use jiff::civil::Date;
use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    Target, TaskRow,
    field::{Labels, Notes, Priority, Title},
    rank::SequenceNumber,
    recurrence::{Recurrence, RecurrenceUpdate, SeriesState},
    reminder::NewReminder,
};

/// A write to a task.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create(NewTask),
    Update(TaskUpdate),
    Delete { target: Target, allow_missing: bool },
    Undelete(Target),
    Complete { target: Target, include_subtasks: bool },
    Reopen(Target),
    Move(Move),
    SkipOccurrence(Target),
    StopRecurrence(Target),
    Snooze { target: Target, reminder_id: Uuid, time: Timestamp },
    Acknowledge { target: Target, reminder_id: Uuid },
}

impl Write {
    /// Returns the task that the write changes, unless it creates one.
    pub(crate) fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            Self::Create(_) => None,
            Self::Update(update) => Some(&mut update.target),
            Self::Move(task_move) => Some(&mut task_move.target),
            Self::Delete { target, .. }
            | Self::Complete { target, .. }
            | Self::Snooze { target, .. }
            | Self::Acknowledge { target, .. }
            | Self::Undelete(target)
            | Self::Reopen(target)
            | Self::SkipOccurrence(target)
            | Self::StopRecurrence(target) => Some(target),
        }
    }

    /// Returns the task whose recurrence the write skips, stops or changes.
    pub(crate) fn recurrence_target(&self) -> Option<Uuid> {
        match self {
            Self::Update(update) if !matches!(update.recurrence, Change::Keep) => Some(update.target.id),
            Self::SkipOccurrence(target) | Self::StopRecurrence(target) => Some(target.id),
            _ => None,
        }
    }
}

/// A task to create.
#[derive(Clone, Debug)]
pub(crate) struct NewTask {
    /// The id that the client has chosen.
    pub(crate) id: Option<Uuid>,
    pub(crate) title: Title,
    pub(crate) notes: Notes,
    pub(crate) priority: Priority,
    /// Never set together with the due time.
    pub(crate) due_date: Option<Date>,
    pub(crate) due_time: Option<Timestamp>,
    pub(crate) time_zone: String,
    pub(crate) labels: Labels,
    pub(crate) list_id: Option<Uuid>,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) recurrence: Option<Recurrence>,
    pub(crate) reminders: Vec<NewReminder>,
    /// What only imports set.
    pub(crate) imported: Option<Box<Imported>>,
}

/// What imports set in addition.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    /// No other task of the owner has it.
    pub(crate) source_id: Option<String>,
    /// The time of the import if it is not set.
    pub(crate) create_time: Option<Timestamp>,
    /// Set if the task is completed.
    pub(crate) complete_time: Option<Timestamp>,
    /// The state of the series, unless it begins with the task.
    pub(crate) series: Option<SeriesState>,
    /// The sequence number of the first mutation of the import, unless this is the first.
    pub(crate) first: Option<SequenceNumber>,
    /// The index of the row in the file, which determines the rank.
    pub(crate) row: u32,
}

/// A change of an optional field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<T> {
    Keep,
    Clear,
    Set(T),
}

impl<T> Change<T> {
    pub(crate) fn from_option(value: Option<T>) -> Self {
        value.map_or(Self::Clear, Self::Set)
    }
}

/// The path of the first field of an update that differs from that of a task, although an update cannot change it.
type FirstDifference = dyn Fn(&TaskRow) -> Option<&'static str> + Send + Sync;

/// Checks the fields that an update repeats because it cannot change them.
#[derive(Clone, Default)]
pub(crate) struct RepeatedFields(Option<Arc<FirstDifference>>);

impl RepeatedFields {
    pub(crate) fn new(first_difference: impl Fn(&TaskRow) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(first_difference)))
    }

    pub(crate) fn first_difference(&self, task: &TaskRow) -> Option<&'static str> {
        self.0.as_ref().and_then(|first_difference| first_difference(task))
    }
}

impl fmt::Debug for RepeatedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RepeatedFields").field(&self.0.is_some()).finish()
    }
}

/// An update of a task. Fields that are `None` are not changed.
#[derive(Clone, Debug)]
pub(crate) struct TaskUpdate {
    pub(crate) target: Target,
    pub(crate) title: Option<Title>,
    pub(crate) notes: Option<Notes>,
    pub(crate) priority: Option<Priority>,
    /// Setting the due date clears the due time, and vice versa, so that they are never set together.
    pub(crate) due_date: Change<Date>,
    pub(crate) due_time: Change<Timestamp>,
    pub(crate) time_zone: Option<String>,
    pub(crate) labels: Option<Labels>,
    pub(crate) repeated: RepeatedFields,
    pub(crate) recurrence: Change<RecurrenceUpdate>,
    pub(crate) scope: UpdateScope,
    pub(crate) reminders: Option<Vec<NewReminder>>,
}

/// The occurrences of a recurring task to which an update applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpdateScope {
    /// To this one if it changes when the task is due, otherwise also to the following ones.
    Unspecified,
    This,
    Following,
}

impl TaskUpdate {
    /// Reports whether any field changes.
    pub(crate) fn has_changes(&self) -> bool {
        self.title.is_some()
            || self.notes.is_some()
            || self.priority.is_some()
            || !matches!((self.due_date, self.due_time), (Change::Keep, Change::Keep))
            || self.time_zone.is_some()
            || self.labels.is_some()
            || !matches!(self.recurrence, Change::Keep)
            || self.reminders.is_some()
    }
}

/// A move of a task.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) target: Target,
    pub(crate) list_id: Option<Uuid>,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) position: Position,
}

/// The new position of a task among its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    First,
    Last,
    Before(Uuid),
    After(Uuid),
}

impl Position {
    /// Returns the sibling that the position names, and the field with its id.
    pub(crate) fn anchor(self) -> Option<(Uuid, &'static str)> {
        match self {
            Self::First | Self::Last => None,
            Self::Before(id) => Some((id, "before_id")),
            Self::After(id) => Some((id, "after_id")),
        }
    }
}
