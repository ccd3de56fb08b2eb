//! What can be asked of a single field.

use std::fmt;

use jiff::{
    SignedDuration,
    civil::{Date, DateTime},
};
use service_kit::clock::Timestamp;
use taskey_proto::task::v1::task::Priority;
use uuid::Uuid;

/// What the names of all priorities begin with in full.
pub(super) const PRIORITY_PREFIX: &str = "PRIORITY_";

/// Where the time of a [`Timestamp`] begins.
pub(super) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A field that a filter can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Id(IdField),
    Text(TextField),
    State,
    Priority,
    DueDate,
    Time(TimeField),
    Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum IdField {
    Id,
    List,
    /// The one that may not be set.
    Parent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TextField {
    Title,
    Notes,
    TimeZone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TimeField {
    /// Of a task with a due date, the end of that day.
    Due,
    Create,
    Update,
    Complete,
}

/// The fields by name, in the order of the documentation.
pub(super) const FIELDS: [(&str, Field); 14] = [
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
];

impl Field {
    pub(super) fn named(name: &str) -> Option<Self> {
        FIELDS.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    pub(super) fn name(self) -> &'static str {
        FIELDS.into_iter().find(|(_, field)| *field == self).expect("every field has a name").0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// What it is called in a filter, and in SQL as well.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// What is true of a task or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Condition {
    /// The title or the notes contain this folded text.
    Word(String),
    /// The field contains this folded text.
    Contains(TextField, String),
    /// Only the title is compared by order.
    Text(TextField, Comparison, String),
    Id(IdField, Equality, Uuid),
    /// Whether the parent is not set.
    NoParent(Equality),
    Completed(bool),
    Priority(Comparison, Priority),
    DueDate(Comparison, Date),
    Time(TimeField, Comparison, Instant),
    /// It holds no control characters.
    Label(String),
    /// The field is there, and not empty.
    IsSet(Field),
}

/// The comparisons of what has no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Equality {
    Equal,
    NotEqual,
}

impl Equality {
    pub(super) fn sign(self) -> &'static str {
        if self.is_equal() { "=" } else { "!=" }
    }

    pub(super) fn is_equal(self) -> bool {
        self == Self::Equal
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Instant {
    /// When the filter is applied.
    Now,
    /// From year 1 to year 9999.
    At(Timestamp),
}

impl Instant {
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(at) => at,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compare = |f: &mut fmt::Formatter<'_>, field: Field, sign: &str| write!(f, "{} {sign} ", field.name());
        match self {
            Self::Word(word) => quoted(f, word),
            Self::Contains(field, text) => {
                write!(f, "{}:", Field::Text(*field).name())?;
                quoted(f, text)
            }
            Self::Text(field, comparison, text) => {
                compare(f, Field::Text(*field), comparison.sign())?;
                quoted(f, text)
            }
            Self::Id(field, equality, id) => {
                compare(f, Field::Id(*field), equality.sign())?;
                write!(f, "\"{id}\"")
            }
            Self::NoParent(equality) => {
                compare(f, Field::Id(IdField::Parent), equality.sign())?;
                quoted(f, "")
            }
            Self::Completed(true) => f.write_str("state = COMPLETED"),
            Self::Completed(false) => f.write_str("state = OPEN"),
            Self::Priority(comparison, priority) => {
                compare(f, Field::Priority, comparison.sign())?;
                f.write_str(priority.as_str_name().trim_start_matches(PRIORITY_PREFIX))
            }
            Self::DueDate(comparison, date) => {
                compare(f, Field::DueDate, comparison.sign())?;
                write!(f, "\"{date}\"")
            }
            Self::Time(field, comparison, instant) => {
                compare(f, Field::Time(*field), comparison.sign())?;
                instant.fmt(f)
            }
            Self::Label(label) => {
                write!(f, "{}:", Field::Labels.name())?;
                quoted(f, label)
            }
            Self::IsSet(field) => write!(f, "{}:*", field.name()),
        }
    }
}

impl fmt::Display for Instant {
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

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
