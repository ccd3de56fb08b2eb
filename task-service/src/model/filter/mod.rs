//! Filters of tasks, in the language of [`service_kit::filter`].
//!
//! A condition is true or false for each task, never null as in SQL. If a field is not set, every comparison with it
//! is false, even `!=`, and the `NOT` of a comparison is true. Texts and `parent_id` are empty if they are not set,
//! so that `!=` is the opposite of `=` for them.

mod condition;
mod index;
mod restriction;
mod sql;

use condition::Condition;
pub(crate) use index::{is_covered_by_index, reads_long_texts, searches_text};
pub(crate) use sql::{SearchColumn, Value, bytewise, push_filter};

/// A filter of tasks.
pub(crate) type Filter = service_kit::filter::Filter<Condition>;

#[cfg(test)]
pub(crate) mod tests;
