//! The state of a series in a file, with which an imported task continues it.

use std::num::NonZeroU32;

use uuid::Uuid;

use super::{Occurrence, Originals, Recurrence, series::Schedule, slot::Slot};
use crate::model::{TaskRow, field::FieldError};

/// What determines the following occurrences of a task, besides its recurrence and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeriesState {
    /// From where the rule counts.
    pub(crate) anchor: Slot,
    /// When this occurrence is due by the rule.
    pub(crate) slot: Slot,
    /// The number of this occurrence, counted from the anchor.
    pub(crate) number: NonZeroU32,
    pub(crate) originals: Originals,
}

impl SeriesState {
    /// Returns the state of a series that begins.
    fn first(slot: Slot) -> Self {
        Self { anchor: slot, slot, number: NonZeroU32::MIN, originals: Originals::default() }
    }

    /// Checks what does not depend on the rule. The slot can precede the anchor, if an occurrence was counted from its
    /// completion.
    ///
    /// # Errors
    /// A message to be read after the name of the series.
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        match (self.anchor, self.slot) {
            (Slot::Date(_), Slot::Date(_)) | (Slot::Time(_), Slot::Time(_)) => Ok(()),
            _ => Err("must have an anchor and a slot that are both days, or both times"),
        }
    }

    /// Returns the occurrence that continues the series with another id, and a checked recurrence.
    pub(crate) fn resume(self, series_id: Uuid, recurrence: Recurrence) -> Occurrence {
        let Self { anchor, slot, number, originals } = self;
        let schedule = Schedule { recurrence, anchor, anchor_number: 1, slot, originals };
        Occurrence { series_id, number: number.get(), next_task_id: None, schedule }
    }
}

impl TaskRow {
    /// Returns the state of the series that continues with this task, unless it is that of a series that begins with it.
    pub(crate) fn series_state(&self) -> Option<SeriesState> {
        let occurrence = self.occurrence().filter(|occurrence| occurrence.next_task_id.is_none())?;
        let Schedule { anchor, anchor_number, slot, originals, .. } = occurrence.schedule;
        let number = NonZeroU32::MIN.saturating_add(occurrence.number.saturating_sub(anchor_number));
        let state = SeriesState { anchor, slot, number, originals };
        (state != SeriesState::first(self.slot()?)).then_some(state)
    }
}
