//! The order of `ListTasks`, and the cursors at which its pages end.

use std::fmt;

use service_kit::{
    clock::Timestamp,
    db::{Engine, QueryBuilder},
};
use uuid::Uuid;

use super::filter::{Value, bytewise};

const MAX_COLUMNS: usize = 3;

/// Replaces a missing due time in ascending order, so that tasks without one come last. Only due dates in the last
/// days of the year 9999 have the same value.
const LAST_ASCENDING: i64 = i64::MAX;
/// Replaces a missing due time in descending order. Not `i64::MIN`, which cannot be a literal on both engines.
const LAST_DESCENDING: i64 = -i64::MAX;

/// The order of tasks: by the columns, and then by id, so that no two tasks have the same cursor. Without columns, the
/// order is descending, so that the newest tasks come first if their ids are UUIDv7. [`parse`](Self::parse) accepts the output of `Display`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OrderBy(Vec<(Column, Direction)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Title,
    CreateTime,
    UpdateTime,
    /// For a due date, the end of that day.
    DueTime,
    Priority,
    Rank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

/// The fields by which tasks are sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SortFields<'a> {
    pub(crate) id: Uuid,
    pub(crate) title: &'a str,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) priority: i64,
    pub(crate) rank: &'a str,
}

/// The cursor of a task in an order: the values of its columns, and the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(Vec<Value>);

impl OrderBy {
    /// Parses `title, priority desc`: up to 3 fields, each at most once. An empty text is the default order.
    ///
    /// # Errors
    /// If the text is not an order, with a message for the caller.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(columns));
        }
        for (index, part) in text.split(',').enumerate() {
            if index == MAX_COLUMNS {
                return Err(format!("has more than {MAX_COLUMNS} fields"));
            }
            let mut words = part.split_whitespace();
            let column = words.next().and_then(Column::from_name);
            let column = column.ok_or_else(|| format!("field {}: must be {}", index + 1, field_names()))?;
            let direction = match (words.next(), words.next()) {
                (None | Some("asc"), None) => Direction::Ascending,
                (Some("desc"), None) => Direction::Descending,
                _ => return Err(format!("{}: must be followed by asc, desc or a comma", column.name())),
            };
            if columns.iter().any(|(previous, _)| *previous == column) {
                return Err(format!("{}: is duplicated", column.name()));
            }
            columns.push((column, direction));
        }
        Ok(Self(columns))
    }

    /// Reports whether an index yields the tasks in the order of the first column, so that few or none must be
    /// sorted. For ranks, this applies to the tasks of one list.
    pub(crate) fn is_indexed(&self) -> bool {
        matches!(self.0.first(), None | Some((Column::Rank, _) | (Column::DueTime, Direction::Ascending)))
    }

    /// Reports whether the index `tasks_sorted` contains all columns of this order.
    pub(crate) fn is_covered(&self) -> bool {
        self.0.iter().all(|(column, _)| *column != Column::Rank)
    }

    /// Appends the `order by` clause to a statement about the tasks of one owner.
    pub(crate) fn push_order(&self, sql: &mut QueryBuilder, engine: Engine) {
        sql.push(" order by ");
        for (expression, direction) in self.expressions(engine) {
            sql.push(format_args!("{expression}{}, ", direction.keyword()));
        }
        sql.push(format_args!("id{}", self.id_direction().keyword()));
    }

    /// Appends the condition that a task comes after a cursor. It can be combined with `and`.
    pub(crate) fn push_after(&self, sql: &mut QueryBuilder, engine: Engine, cursor: &Cursor) {
        let expressions = self.expressions(engine);
        let (id, values) = cursor.0.split_last().expect("a cursor ends with an id");
        // Redundant, but tells the engine where an index scan starts.
        if let (Some((expression, direction)), Some(value)) = (expressions.first(), values.first()) {
            sql.push(format_args!("{expression} {}= ", direction.operator()));
            sql.push_bind(value.clone());
            sql.push(" and ");
        }
        for ((expression, direction), value) in expressions.iter().zip(values) {
            sql.push(format_args!("({expression} {} ", direction.operator()));
            sql.push_bind(value.clone());
            sql.push(format_args!(" or ({expression} = "));
            sql.push_bind(value.clone());
            sql.push(" and ");
        }
        sql.push(format_args!("id {} ", self.id_direction().operator()));
        sql.push_bind(id.clone());
        sql.push("))".repeat(expressions.len()));
    }

    /// Appends the encoded cursor of a task: the values of the columns, then the id as 16 bytes. A number has 8 bytes,
    /// big-endian; a text ends with a NUL, which no title and no rank contains.
    pub(crate) fn encode_cursor<'a>(&self, task: impl Into<SortFields<'a>>, bytes: &mut Vec<u8>) {
        let task = task.into();
        for (column, direction) in &self.0 {
            let number = match column {
                Column::Title | Column::Rank => {
                    let text = if *column == Column::Title { task.title } else { task.rank };
                    bytes.extend_from_slice(text.as_bytes());
                    bytes.push(0);
                    continue;
                }
                Column::CreateTime => task.create_time.as_micros(),
                Column::UpdateTime => task.update_time.as_micros(),
                Column::DueTime => task.due_at.map_or(direction.missing_due_at(), Timestamp::as_micros),
                Column::Priority => task.priority,
            };
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(task.id.as_bytes());
    }

    /// Decodes the result of [`encode_cursor`](Self::encode_cursor) of this order. For a cursor of another order, the result
    /// is wrong or `None`.
    pub(crate) fn decode(&self, mut bytes: &[u8]) -> Option<Cursor> {
        let mut values = Vec::with_capacity(self.0.len() + 1);
        for (column, _) in &self.0 {
            if column.is_text() {
                let length = bytes.iter().position(|byte| *byte == 0)?;
                values.push(Value::Text(str::from_utf8(&bytes[..length]).ok()?.to_owned()));
                bytes = &bytes[length + 1..];
            } else {
                let (number, rest) = bytes.split_first_chunk()?;
                values.push(Value::Int(i64::from_be_bytes(*number)));
                bytes = rest;
            }
        }
        values.push(Value::Id(Uuid::from_bytes(bytes.try_into().ok()?)));
        Some(Cursor(values))
    }

    fn expressions(&self, engine: Engine) -> Vec<(String, Direction)> {
        let expression = |(column, direction): &(Column, Direction)| {
            let expression = match column {
                Column::Title => format!("title{}", bytewise(engine)),
                Column::DueTime => format!("coalesce(due_at, {})", direction.missing_due_at()),
                column => column.name().to_owned(),
            };
            (expression, *direction)
        };
        self.0.iter().map(expression).collect()
    }

    fn id_direction(&self) -> Direction {
        if self.0.is_empty() { Direction::Descending } else { Direction::Ascending }
    }
}

impl fmt::Display for OrderBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (column, direction)) in self.0.iter().enumerate() {
            write!(f, "{}{}{}", if index == 0 { "" } else { ", " }, column.name(), direction.keyword())?;
        }
        Ok(())
    }
}

impl Cursor {
    /// Returns the id of the task.
    pub(crate) fn id(&self) -> Uuid {
        match self.0.last() {
            Some(Value::Id(id)) => *id,
            _ => unreachable!("a cursor ends with an id"),
        }
    }
}

impl Column {
    const ALL: [Self; 6] = [Self::Title, Self::CreateTime, Self::UpdateTime, Self::DueTime, Self::Priority, Self::Rank];

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::CreateTime => "create_time",
            Self::UpdateTime => "update_time",
            Self::DueTime => "due_time",
            Self::Priority => "priority",
            Self::Rank => "rank",
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Title | Self::Rank)
    }
}

fn field_names() -> String {
    Column::ALL.map(Column::name).join(", ").replace(", rank", " or rank")
}

impl Direction {
    fn keyword(self) -> &'static str {
        match self {
            Self::Ascending => "",
            Self::Descending => " desc",
        }
    }

    fn operator(self) -> &'static str {
        match self {
            Self::Ascending => ">",
            Self::Descending => "<",
        }
    }

    fn missing_due_at(self) -> i64 {
        match self {
            Self::Ascending => LAST_ASCENDING,
            Self::Descending => LAST_DESCENDING,
        }
    }
}

#[cfg(test)]
mod tests;
