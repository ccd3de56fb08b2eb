//! Conditions on single fields of a task.

use std::fmt;

use jiff::{
    SignedDuration,
    civil::{Date, DateTime},
};
use service_kit::{clock::Timestamp, filter::Comparison};
use uuid::Uuid;

use crate::model::field::Priority;

/// The prefix of the full names of priorities.
pub(super) const PRIORITY_PREFIX: &str = "PRIORITY_";

/// The Unix epoch, which is zero in a [`Timestamp`].
pub(super) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A field that a filter can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Id(IdField),
    Text(TextField),
    State,
    Priority,
    DueDate,
    Time(TimeField),
    Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdField {
    Id,
    List,
    /// Not set for tasks at the top level.
    Parent,
    /// Not set for tasks that do not recur.
    Series,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TextField {
    Title,
    Notes,
    TimeZone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TimeField {
    /// For a due date, the end of that day.
    Due,
    Create,
    Update,
    Complete,
}

/// The fields by name, in the order of the documentation.
pub(super) const FIELDS: [(&str, Field); 15] = [
    ("id", Field::Id(IdField::Id)),
    ("list_id", Field::Id(IdField::List)),
    ("parent_id", Field::Id(IdField::Parent)),
    ("title", Field::Text(TextField::Title)),
    ("notes", Field::Text(TextField::Notes)),
    ("state", Field::State),
    ("priority", Field::Priority),
    ("due_date", Field::DueDate),
    ("due_time", Field::Time(TimeField::Due)),
    ("time_zone", Field::Text(TextField::TimeZone)),
    ("create_time", Field::Time(TimeField::Create)),
    ("update_time", Field::Time(TimeField::Update)),
    ("complete_time", Field::Time(TimeField::Complete)),
    ("labels", Field::Labels),
    ("series_id", Field::Id(IdField::Series)),
];

impl Field {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        FIELDS.into_iter().find(|(field_name, _)| *field_name == name).map(|(_, field)| field)
    }

    pub(super) fn name(self) -> &'static str {
        FIELDS.into_iter().find(|(_, field)| *field == self).expect("every field has a name").0
    }
}

/// A condition on a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// The title or the notes contain this folded text.
    Word(String),
    /// The field contains this folded text.
    Contains(TextField, String),
    /// Fields other than the title are compared only with `=` and `!=`.
    Text(TextField, Comparison, String),
    Id(IdField, Equality, Uuid),
    /// The task has no parent or, with [`Equality::NotEqual`], has one.
    NoParent(Equality),
    Completed(bool),
    Priority(Comparison, Priority),
    DueDate(Comparison, Date),
    Time(TimeField, Comparison, FilterTime),
    /// The task has a label that equals this folded text, which contains no control characters.
    Label(String),
    /// The field is set and not empty.
    IsSet(Field),
}

/// A comparison of fields that have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Equality {
    Equal,
    NotEqual,
}

impl Equality {
    pub(super) fn operator(self) -> &'static str {
        if self.is_equal() { "=" } else { "!=" }
    }

    pub(super) fn is_equal(self) -> bool {
        self == Self::Equal
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FilterTime {
    /// The time when the filter is applied.
    Now,
    /// From year 1 to year 9999.
    At(Timestamp),
}

impl FilterTime {
    pub(super) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(at) => at,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write_comparison =
            |f: &mut fmt::Formatter<'_>, field: Field, operator: &str| write!(f, "{} {operator} ", field.name());
        match self {
            Self::Word(word) => write_quoted(f, word),
            Self::Contains(field, text) => {
                write!(f, "{}:", Field::Text(*field).name())?;
                write_quoted(f, text)
            }
            Self::Text(field, comparison, text) => {
                write_comparison(f, Field::Text(*field), comparison.operator())?;
                write_quoted(f, text)
            }
            Self::Id(field, equality, id) => {
                write_comparison(f, Field::Id(*field), equality.operator())?;
                write!(f, "\"{id}\"")
            }
            Self::NoParent(equality) => {
                write_comparison(f, Field::Id(IdField::Parent), equality.operator())?;
                write_quoted(f, "")
            }
            Self::Completed(true) => f.write_str("state = COMPLETED"),
            Self::Completed(false) => f.write_str("state = OPEN"),
            Self::Priority(comparison, priority) => {
                write_comparison(f, Field::Priority, comparison.operator())?;
                f.write_str(priority.name())
            }
            Self::DueDate(comparison, date) => {
                write_comparison(f, Field::DueDate, comparison.operator())?;
                write!(f, "\"{date}\"")
            }
            Self::Time(field, comparison, instant) => {
                write_comparison(f, Field::Time(*field), comparison.operator())?;
                instant.fmt(f)
            }
            Self::Label(label) => {
                write!(f, "{}:", Field::Labels.name())?;
                write_quoted(f, label)
            }
            Self::IsSet(field) => write!(f, "{}:*", field.name()),
        }
    }
}

impl fmt::Display for FilterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now()"),
            Self::At(at) => {
                let time = EPOCH.checked_add(SignedDuration::from_micros(at.as_micros())).map_err(|_| fmt::Error)?;
                write!(f, "\"{time}Z\"")
            }
        }
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
