//! Recurrence rules (RFC 5545, section 3.3.10) with `SKIP` (RFC 7529), without I/O.
//!
//! Occurrences are computed from the anchor, the first due date of a series, and never from the previous occurrence: a
//! monthly rule that is anchored on January 31 recurs on the last day of each month forever. Dates are civil; the time
//! zone is applied to each of them at the end.
//!
//! Where RFC 5545 leaves a choice:
//! - A rule without `SKIP` has `SKIP=BACKWARD`: a day that a month does not have is replaced by the last day of that
//!   month.
//! - The anchor occurs only if it matches the rule.
//! - With `BYWEEKNO`, years are the years of weeks (ISO 8601 with `WKST`), so that no week is torn. Without `BYDAY`, the
//!   weekday is that of the anchor.
//! - A search ends after [`MAX_DAYS_EXAMINED`] days and times. Those of a call have a [`SearchBudget`] together.

use super::field::FieldError;

/// What is wrong with a recurrence without a due date or due time.
pub(crate) const REQUIRES_DUE: FieldError = "requires a due date or a due time";

mod dates;
mod expand;
mod parse;
mod rule;
mod series;
mod slot;
mod text;
mod zone;

pub(crate) use expand::{MAX_DAYS_EXAMINED, SearchBudget};
pub(crate) use parse::MAX_BYTES;
pub(crate) use rule::Rule;
pub(crate) use series::{Basis, CatchUp, Ending, Occurrence, Originals, Recurrence, RecurrenceUpdate};
pub(crate) use slot::Slot;

#[cfg(test)]
mod tests;
