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

use service_kit::clock::Timestamp;

use super::field::FieldError;

/// What is wrong with a due time or start that `jiff` cannot represent in all time zones.
pub(crate) const TOO_LATE: FieldError = "must be before 9999-12-30T22:00:01Z";

/// Returns what is wrong with a recurrence without a slot, whose task has this due time.
pub(crate) fn missing_slot(due_time: Option<Timestamp>) -> FieldError {
    match due_time {
        None => "requires a due date or a due time",
        Some(_) => "requires a due time before 9999-12-30T22:00:01Z",
    }
}

mod dates;
mod expand;
mod parse;
mod rule;
mod series;
mod slot;
mod state;
mod text;
mod zone;

pub(crate) use expand::{MAX_DAYS_EXAMINED, SearchBudget};
pub(crate) use parse::MAX_BYTES;
pub(crate) use rule::Rule;
pub(crate) use series::{Basis, CatchUp, Ending, Occurrence, Originals, Recurrence, RecurrenceUpdate, TOO_MANY_DAYS};
pub(crate) use slot::Slot;
pub(crate) use state::SeriesState;

#[cfg(test)]
mod tests;
