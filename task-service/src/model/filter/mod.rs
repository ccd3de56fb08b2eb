//! Filters of tasks. The language is that of [`service_kit::filter`].
//!
//! A condition is either true or false of a task, never unknown. A field that is not set fails every comparison, even
//! `!=`, and `NOT` makes that true. Texts and `parent_id` are empty if they are not set, so that `!=` is the opposite of
//! `=` for them.

mod condition;
mod fold;
mod index;
mod restriction;
mod sql;

use condition::Condition;
pub(crate) use fold::search_text;
pub(crate) use index::{is_covered_by_index, searches_text};
pub(crate) use sql::{SearchColumn, Value, bytewise, push_filter};

/// A filter of tasks.
pub(crate) type Filter = service_kit::filter::Filter<Condition>;

#[cfg(test)]
pub(crate) mod tests;
