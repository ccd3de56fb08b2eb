//! The meaning of a filter, without a database.

use service_kit::{
    clock::Timestamp,
    filter::{Comparison, Expression},
};

use super::{
    super::{
        Filter,
        condition::{Condition, Equality, Field, IdField, TextField, TimeField},
    },
    row::Row,
};
use crate::model::fold::fold;

/// Reports whether a filter matches a task.
pub(super) fn matches(filter: &Filter, row: &Row, now: Timestamp) -> bool {
    expression(filter.expression(), row, now)
}

fn expression(filter: &Expression<Condition>, row: &Row, now: Timestamp) -> bool {
    match filter {
        Expression::All(parts) => parts.iter().all(|part| expression(part, row, now)),
        Expression::Any(parts) => parts.iter().any(|part| expression(part, row, now)),
        Expression::Not(part) => !expression(part, row, now),
        Expression::Is(filter) => condition(filter, row, now),
    }
}

fn condition(filter: &Condition, row: &Row, now: Timestamp) -> bool {
    match filter {
        Condition::Word(word) => fold(&row.title).contains(word) || fold(&row.notes).contains(word),
        Condition::Contains(field, part) => fold(text(*field, row)).contains(part),
        Condition::Text(field, comparison, value) => compare(*comparison, &text(*field, row), &value.as_str()),
        Condition::Id(field, equality, id) => {
            let is_it = match field {
                IdField::Id => row.id == *id,
                IdField::List => row.list_id == *id,
                IdField::Parent => row.parent_id == Some(*id),
                IdField::Series => row.series_id == Some(*id),
            };
            is_it == (*equality == Equality::Equal)
        }
        Condition::NoParent(equality) => row.parent_id.is_none() == (*equality == Equality::Equal),
        Condition::Completed(completed) => row.complete_time.is_some() == *completed,
        Condition::Priority(comparison, priority) => {
            compare(*comparison, &row.priority, &i64::from(i32::from(*priority)))
        }
        Condition::DueDate(comparison, day) => {
            row.due_date.is_some_and(|due_date| compare(*comparison, &due_date, &day.to_string().as_str()))
        }
        Condition::Time(field, comparison, instant) => {
            time(*field, row).is_some_and(|time| compare(*comparison, &time, &instant.resolve(now)))
        }
        Condition::Label(label) => row.labels.iter().any(|one| fold(one) == *label),
        Condition::IsSet(field) => is_set(*field, row),
    }
}

fn is_set(field: Field, row: &Row) -> bool {
    match field {
        Field::Id(IdField::Id | IdField::List) | Field::State => true,
        Field::Id(IdField::Parent) => row.parent_id.is_some(),
        Field::Id(IdField::Series) => row.series_id.is_some(),
        Field::Text(field) => !text(field, row).is_empty(),
        Field::Priority => row.priority != 0,
        Field::DueDate => row.due_date.is_some(),
        Field::Time(field) => time(field, row).is_some(),
        Field::Labels => !row.labels.is_empty(),
    }
}

fn text(field: TextField, row: &Row) -> &str {
    match field {
        TextField::Title => &row.title,
        TextField::Notes => &row.notes,
        TextField::TimeZone => row.time_zone,
    }
}

fn time(field: TimeField, row: &Row) -> Option<Timestamp> {
    match field {
        TimeField::Due => row.due_at,
        TimeField::Create => Some(row.create_time),
        TimeField::Update => Some(row.update_time),
        TimeField::Complete => row.complete_time,
    }
}

fn compare<T: Ord>(comparison: Comparison, one: &T, other: &T) -> bool {
    match comparison {
        Comparison::Equal => one == other,
        Comparison::NotEqual => one != other,
        Comparison::Less => one < other,
        Comparison::LessOrEqual => one <= other,
        Comparison::Greater => one > other,
        Comparison::GreaterOrEqual => one >= other,
    }
}
