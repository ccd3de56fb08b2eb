//! The occurrences of a rule, as instants in a time zone.

use std::collections::BTreeSet;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use super::{
    expand::{Occurrences, SearchBudget},
    rule::{End, Rule},
};

impl Rule {
    /// Returns the instants of the occurrences from the anchor, in order and without duplicates. A time that a clock
    /// change skips moves later by the length of the gap; of a time that is repeated, the first one counts.
    pub(crate) fn instants(&self, anchor: DateTime, zone: TimeZone) -> impl Iterator<Item = Timestamp> {
        self.instants_from(anchor, zone, None)
    }

    /// Returns the first instant after `after` of the series with this anchor.
    pub(super) fn instant_after(
        &self,
        anchor: DateTime,
        zone: &TimeZone,
        after: Timestamp,
        searches: &mut SearchBudget,
    ) -> Option<Timestamp> {
        // No clock change skips more than a day.
        let start = zone.to_datetime(after).date().checked_sub(2.days()).ok();
        find_instant(self.instants_from(anchor, zone.clone(), start), searches, |instant| instant > after)
    }

    /// Reports whether there is an instant from the anchor on.
    pub(super) fn has_instant(&self, anchor: DateTime, zone: TimeZone, searches: &mut SearchBudget) -> bool {
        find_instant(self.instants_from(anchor, zone, None), searches, |_| true).is_some()
    }

    /// Reports whether the rule ends before this time. A day is the midnight with which it begins, in UTC.
    pub(crate) fn ends_before(&self, start: DateTime, zone: &TimeZone) -> bool {
        match self.end {
            End::Utc(time) => {
                let instants = TimeZone::UTC.to_timestamp(time).ok().zip(zone.to_timestamp(start).ok());
                instants.is_some_and(|(last, start)| last < start)
            }
            _ => self.last_time().is_some_and(|last| last < start),
        }
    }

    /// Returns the instants of the periods that end on or after `start`, unless the rule counts all.
    fn instants_from(&self, anchor: DateTime, zone: TimeZone, start: Option<Date>) -> Instants {
        let (last_civil, last) = match self.end {
            // No time zone is further from UTC.
            End::Utc(time) => (time.checked_add(26.hours()).ok(), TimeZone::UTC.to_timestamp(time).ok()),
            _ => (None, None),
        };
        let mut civil = match last_civil {
            Some(_) => Occurrences::new(self, anchor, last_civil),
            None => self.occurrences(anchor),
        };
        if let Some(start) = start {
            civil.skip_periods_before(start);
        }
        Instants { civil, zone, last, latest: None, pending: BTreeSet::new() }
    }
}

/// Returns the first instant that matches.
fn find_instant(
    mut instants: Instants,
    searches: &mut SearchBudget,
    is_match: impl Fn(Timestamp) -> bool,
) -> Option<Timestamp> {
    searches.limit(&mut instants.civil);
    let found = instants.find(|instant| is_match(*instant));
    searches.spend(&instants.civil);
    found
}

struct Instants {
    civil: Occurrences,
    zone: TimeZone,
    /// The end of the rule, if it is an instant.
    last: Option<Timestamp>,
    /// The latest instant that was not skipped by a clock change. All that were not read yet are later.
    latest: Option<Timestamp>,
    /// The instants that were read and not returned: those of skipped times, and `latest`.
    pending: BTreeSet<Timestamp>,
}

impl Iterator for Instants {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        while self.pending.first().is_none_or(|first| self.latest.is_none_or(|latest| *first > latest)) {
            let Some(time) = self.civil.next() else { break };
            let ambiguous = self.zone.to_ambiguous_timestamp(time);
            let is_skipped = matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
            let Ok(instant) = ambiguous.compatible() else { break };
            self.pending.insert(instant);
            if !is_skipped {
                self.latest = Some(instant);
            }
        }
        self.pending.pop_first().filter(|instant| self.last.is_none_or(|last| *instant <= last))
    }
}
