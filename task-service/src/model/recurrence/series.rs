//! The occurrences of recurring tasks. Each is a task that knows its series, and from which the next one is computed.

use jiff::{ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};
use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    Rule, SearchBudget,
    slot::{Slot, time_zone},
};
use crate::model::{TaskRow, field::FieldError};

/// What is wrong with the rules of a call whose searches examine too many days together.
pub(crate) const TOO_MANY_DAYS: FieldError =
    "must not require so many days to be examined, together with the other rules of the call";

/// How a task recurs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Recurrence {
    pub(crate) rule: Rule,
    pub(crate) basis: Basis,
    pub(crate) catch_up: CatchUp,
}

impl Recurrence {
    /// Checks that the rule has an occurrence from the anchor on, and selects times only if the anchor is a time.
    ///
    /// # Errors
    /// A message to be read after the name of the rule.
    pub(crate) fn check(&self, anchor: Slot, zone: &str, searches: &mut SearchBudget) -> Result<(), FieldError> {
        let has_occurrence = match anchor {
            Slot::Date(_) if self.rule.selects_times() => {
                return Err("must not have BYHOUR, BYMINUTE or BYSECOND without a due time");
            }
            Slot::Date(date) => self.rule.has_date(date, searches),
            Slot::Time(time) => self.rule.has_instant(time, time_zone(zone), searches),
        };
        match (has_occurrence, searches.is_exhausted()) {
            (true, _) => Ok(()),
            (false, false) => Err("must have an occurrence at the due date or after it"),
            (false, true) => Err(TOO_MANY_DAYS),
        }
    }
}

/// The fields of a recurrence that an update sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecurrenceUpdate {
    pub(crate) rule: Option<Rule>,
    pub(crate) basis: Option<Basis>,
    pub(crate) catch_up: Option<CatchUp>,
}

impl RecurrenceUpdate {
    /// Returns the recurrence after the update, or `None` if it has no rule.
    pub(crate) fn apply(&self, before: Option<&Recurrence>) -> Option<Recurrence> {
        Some(Recurrence {
            rule: self.rule.as_ref().or(before.map(|before| &before.rule))?.clone(),
            basis: self.basis.or(before.map(|before| before.basis)).unwrap_or(Basis::Due),
            catch_up: self.catch_up.or(before.map(|before| before.catch_up)).unwrap_or(CatchUp::Skip),
        })
    }
}

/// From when the next occurrence is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Basis {
    Due,
    Completion,
}

/// Which occurrence follows one that is completed late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum CatchUp {
    /// The first one that is not overdue.
    Skip,
    Each,
}

impl Basis {
    /// Returns the name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Due => "BASIS_DUE",
            Self::Completion => "BASIS_COMPLETION",
        }
    }
}

impl CatchUp {
    /// Returns the name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Skip => "CATCH_UP_SKIP",
            Self::Each => "CATCH_UP_EACH",
        }
    }
}

/// How an occurrence ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    Skipped,
}

/// The occurrence of a series that a task is.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    pub(crate) series_id: Uuid,
    /// Its number in the series. The database has at most one task with each number.
    pub(crate) number: u32,
    pub(crate) next_task_id: Option<Uuid>,
    pub(crate) schedule: Schedule,
}

/// What the database stores of an occurrence besides its key and the next task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Schedule {
    pub(crate) recurrence: Recurrence,
    /// From where the rule counts, and the number of the occurrence there.
    pub(super) anchor: Slot,
    pub(super) anchor_number: u32,
    /// When this occurrence is due by the rule.
    pub(crate) slot: Slot,
    /// What the following occurrences have instead of the fields that were changed for this one only.
    #[serde(default)]
    pub(crate) originals: Originals,
}

/// The fields of the following occurrences that differ from those of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Originals {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<String>,
    /// Only the relative reminders, as the next occurrence has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reminders: Option<String>,
}

/// The number of digits of a series id and of a number in the stored form. The unique index has these.
const SERIES_DIGITS: usize = 32;
const NUMBER_DIGITS: usize = 10;

impl Occurrence {
    /// Returns the first occurrence of a new series, whose recurrence is checked.
    pub(crate) fn first(series_id: Uuid, recurrence: Recurrence, slot: Slot) -> Self {
        let schedule = Schedule { recurrence, anchor: slot, anchor_number: 1, slot, originals: Originals::default() };
        Self { series_id, number: 1, next_task_id: None, schedule }
    }

    /// Returns this occurrence with a new anchor, from which the recurrence is checked.
    pub(crate) fn restart(self, slot: Slot) -> Self {
        let schedule = Schedule { anchor: slot, anchor_number: self.number, slot, ..self.schedule };
        Self { schedule, ..self }
    }

    /// Returns this occurrence after the time zone of the series has changed. A due time is an instant, so this and the
    /// following occurrences are at its time of day in the new zone, unless the rule has hours of its own.
    pub(crate) fn move_to_zone(self, before: &str, after: &str) -> Self {
        if before == after {
            return self;
        }
        let moved = self.schedule.moved_to_zone(&time_zone(before), &time_zone(after));
        Self { schedule: moved.unwrap_or(self.schedule), ..self }
    }

    /// Returns the occurrence that follows when this one ends, or `None` if the rule has ended. `zone` is the time zone of
    /// the series, or UTC if it is unknown.
    pub(crate) fn next(&self, zone: &str, now: Timestamp, ending: Ending, searches: &mut SearchBudget) -> Option<Self> {
        let zone = time_zone(zone);
        let now = jiff::Timestamp::from_microsecond(now.as_micros()).ok()?;
        let slot = match self.schedule.recurrence.basis {
            Basis::Due => self.schedule.next_by_anchor(&zone, now, searches)?,
            Basis::Completion => {
                let rule = &self.schedule.recurrence.rule;
                if rule.count().is_some_and(|count| self.number - self.schedule.anchor_number + 1 >= count) {
                    return None;
                }
                self.schedule.next_by_day(&zone, now, ending, searches)?
            }
        };
        let schedule = Schedule { slot, originals: Originals::default(), ..self.schedule.clone() };
        Some(Self { number: self.number.checked_add(1)?, next_task_id: None, schedule, ..*self })
    }

    /// Returns the recurrence in plain English.
    pub(crate) fn text(&self) -> String {
        let Schedule { recurrence: Recurrence { rule, basis, .. }, anchor, .. } = &self.schedule;
        match basis {
            Basis::Due => rule.text(anchor.to_civil()),
            Basis::Completion => {
                format!("{}, counted from the completion", rule.text_without_anchor(anchor.to_civil()))
            }
        }
    }

    /// Returns the stored form: the series and the number, which have a fixed length, the id of the next task, and the
    /// schedule as JSON.
    pub(crate) fn to_stored(&self) -> String {
        let Self { series_id, number, next_task_id, schedule } = self;
        let next = next_task_id.unwrap_or_default().simple();
        let schedule = serde_json::to_string(schedule).expect("a schedule has only texts and numbers");
        format!("{}{number:0NUMBER_DIGITS$}{next}{schedule}", series_id.simple())
    }

    /// Parses a stored form.
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        let (series_id, rest) = text.split_at_checked(SERIES_DIGITS)?;
        let (number, rest) = rest.split_at_checked(NUMBER_DIGITS)?;
        let (next, schedule) = rest.split_at_checked(SERIES_DIGITS)?;
        Some(Self {
            series_id: series_id.parse().ok()?,
            number: number.parse().ok()?,
            next_task_id: next.parse().ok().filter(|id: &Uuid| !id.is_nil()),
            schedule: serde_json::from_str(schedule).ok()?,
        })
    }
}

impl Schedule {
    fn moved_to_zone(&self, before: &TimeZone, after: &TimeZone) -> Option<Self> {
        let (Slot::Time(anchor), Slot::Time(slot)) = (self.anchor, self.slot) else { return None };
        if !self.recurrence.rule.by_hour.is_empty() {
            return None;
        }
        let moved = after.to_datetime(before.to_timestamp(slot).ok()?);
        // Not to its own instant: clock changes between the anchor and this occurrence would count.
        let anchor = anchor.checked_add(moved.duration_since(slot)).ok()?;
        Some(Self { anchor: Slot::Time(anchor), slot: Slot::Time(moved), ..self.clone() })
    }

    /// Returns the first slot after this one or, with [`CatchUp::Skip`], the first of these that is not overdue.
    fn next_by_anchor(&self, zone: &TimeZone, now: jiff::Timestamp, searches: &mut SearchBudget) -> Option<Slot> {
        let Recurrence { rule, catch_up, .. } = &self.recurrence;
        let skips = *catch_up == CatchUp::Skip;
        match self.anchor {
            Slot::Date(anchor) => {
                // A day is overdue when it has ended.
                let yesterday = zone.to_datetime(now).date().yesterday().ok().filter(|_| skips);
                let after = yesterday.unwrap_or(Date::MIN).max(self.slot.date());
                rule.next_date(anchor, after, searches).map(Slot::Date)
            }
            Slot::Time(anchor) => {
                let slot = zone.to_timestamp(self.slot.to_civil()).ok()?;
                let next = rule.instant_after(anchor, zone, if skips { slot.max(now) } else { slot }, searches)?;
                Some(Slot::Time(zone.to_datetime(next)))
            }
        }
    }

    /// Returns the first slot after the day on which this occurrence ends, counted from this day.
    fn next_by_day(
        &self,
        zone: &TimeZone,
        now: jiff::Timestamp,
        ending: Ending,
        searches: &mut SearchBudget,
    ) -> Option<Slot> {
        let rule = self.recurrence.rule.without_count();
        let slot = zone.to_timestamp(self.slot.to_civil()).ok()?;
        let end = if ending == Ending::Skipped { now.max(slot) } else { now };
        let day = zone.to_datetime(end).date();
        match self.anchor {
            Slot::Date(_) => rule.next_date(day, day, searches).map(Slot::Date),
            Slot::Time(anchor) => {
                let anchor = day.to_datetime(anchor.time());
                let after = zone.to_timestamp(anchor).ok()?.max(end);
                Some(Slot::Time(zone.to_datetime(rule.instant_after(anchor, zone, after, searches)?)))
            }
        }
    }
}

impl TaskRow {
    /// Returns when the task is due, as a series in its time zone counts it.
    pub(crate) fn slot(&self) -> Option<Slot> {
        self.slot_in(&self.time_zone)
    }

    /// Returns when the task is due, as a series in this time zone counts it.
    pub(crate) fn slot_in(&self, zone: &str) -> Option<Slot> {
        let date = self.due_date.as_ref().and_then(|date| date.parse().ok());
        Slot::from_due(date, self.due_time, zone)
    }

    /// Sets when the task is due.
    pub(crate) fn set_due(&mut self, slot: Slot) {
        (self.due_date, self.due_time) = match slot {
            Slot::Date(date) => (Some(date.to_string()), None),
            Slot::Time(time) => {
                let instant = time_zone(&self.time_zone).to_timestamp(time);
                (None, instant.ok().map(|instant| Timestamp::from_micros(instant.as_microsecond())))
            }
        };
    }

    /// Moves the due date or due time by this number of days. Clears it after the year 9999.
    pub(crate) fn shift_due(&mut self, days: i64) {
        let shifted = self.slot().and_then(|slot| slot.checked_add(days.days()));
        (self.due_date, self.due_time) = (None, None);
        if let Some(slot) = shifted {
            self.set_due(slot);
        }
    }
}

impl<T: AsRef<str>> TaskRow<T> {
    /// Returns the occurrence that the task is, if it recurs.
    pub(crate) fn occurrence(&self) -> Option<Occurrence> {
        self.recurrence.as_ref().and_then(|stored| Occurrence::from_stored(stored.as_ref()))
    }
}
