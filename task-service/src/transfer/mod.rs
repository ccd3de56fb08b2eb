//! Files with tasks: exports, and the formats.

pub(crate) mod csv;
pub(crate) mod export;
pub(crate) mod fields;
pub(crate) mod format;
pub(crate) mod icalendar;
pub(crate) mod jsonl;
pub(crate) mod limit;
