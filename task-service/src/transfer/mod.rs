//! Files with tasks: exports, imports, and the formats.

pub(crate) mod csv;
pub(crate) mod export;
pub(crate) mod fields;
pub(crate) mod format;
pub(crate) mod icalendar;
pub(crate) mod import;
pub(crate) mod jsonl;
pub(crate) mod limit;
pub(crate) mod series;
