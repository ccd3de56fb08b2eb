//! Imports: reads a file twice. The first time decides what it creates, and finds everything that cannot be imported. The
//! second time creates the tasks, level by level.

pub(crate) mod alarm;
pub(crate) mod check;
pub(crate) mod csv;
pub(crate) mod entry;
pub(crate) mod fit;
pub(crate) mod google;
pub(crate) mod graph;
pub(crate) mod icalendar;
pub(crate) mod json_lists;
pub(crate) mod jsonl;
pub(crate) mod keys;
pub(crate) mod lines;
pub(crate) mod microsoft;
pub(crate) mod plan;
pub(crate) mod property;
pub(crate) mod read;
pub(crate) mod records;
pub(crate) mod report;
pub(crate) mod sink;
pub(crate) mod spool;
pub(crate) mod todoist;
pub(crate) mod todoist_date;
pub(crate) mod todoist_rule;
pub(crate) mod zip;
pub(crate) mod zone;

#[cfg(test)]
mod tests;
