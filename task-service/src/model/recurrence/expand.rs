//! The occurrences of a rule, as civil times.

use std::{collections::VecDeque, iter::FusedIterator};

use jiff::civil::{Date, DateTime, Time};

use super::{
    dates::Periods,
    rule::{End, Rule},
};

/// A search ends after it has examined this number of days and times, which takes a few milliseconds. The longest gap in
/// a rule without an interval has 40 years (February 29 on a given weekday, around 2100).
pub(crate) const MAX_DAYS_EXAMINED: usize = 100_000;

/// How many days and times several searches may examine together. One search alone does not use it up.
#[derive(Clone, Debug)]
pub(crate) struct SearchBudget(usize);

impl Default for SearchBudget {
    fn default() -> Self {
        Self(2 * MAX_DAYS_EXAMINED)
    }
}

impl SearchBudget {
    /// Reports whether a search may have ended early.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.0 == 0
    }

    /// Executes searches that may examine `days` more than this budget, which pays only for what exceeds them.
    pub(crate) fn with_allowance<T>(&mut self, days: usize, search: impl FnOnce(&mut Self) -> T) -> T {
        let mut extended = Self(self.0.saturating_add(days));
        let outcome = search(&mut extended);
        self.0 = self.0.min(extended.0);
        outcome
    }

    fn for_one_search(&self) -> usize {
        self.0.min(MAX_DAYS_EXAMINED)
    }

    /// Limits a search that begins.
    pub(super) fn limit(&self, occurrences: &mut Occurrences) {
        occurrences.budget = self.for_one_search();
    }

    /// Subtracts what a search has examined that this budget has limited.
    pub(super) fn spend(&mut self, occurrences: &Occurrences) {
        self.0 -= self.for_one_search() - occurrences.budget;
    }
}

/// The anchor is in period 0. A day that the period before it does not have can be replaced by the anchor.
const FIRST_PERIOD: i64 = -1;

impl Rule {
    /// Returns the occurrences from the anchor, in order. The anchor is one of them if it matches the rule.
    pub(crate) fn occurrences(&self, anchor: DateTime) -> Occurrences {
        Occurrences::new(self, anchor, self.last_time())
    }

    /// Returns the first occurrence after `time` of the series with this anchor.
    pub(crate) fn next_after(&self, anchor: DateTime, time: DateTime, searches: &mut SearchBudget) -> Option<DateTime> {
        let mut occurrences = self.occurrences(anchor);
        searches.limit(&mut occurrences);
        occurrences.skip_periods_before(time.date());
        let next = occurrences.find(|occurrence| *occurrence > time);
        searches.spend(&occurrences);
        next
    }

    /// Reports whether there is a date from the anchor on.
    pub(super) fn has_date(&self, anchor: Date, searches: &mut SearchBudget) -> bool {
        let mut occurrences = self.occurrences(anchor.to_datetime(Time::midnight()));
        searches.limit(&mut occurrences);
        let has_date = occurrences.next().is_some();
        searches.spend(&occurrences);
        has_date
    }

    /// Returns the dates from the anchor, in order.
    pub(crate) fn dates(&self, anchor: Date) -> impl Iterator<Item = Date> {
        self.occurrences(anchor.to_datetime(Time::midnight())).map(DateTime::date)
    }

    /// Returns how many of the first `count` dates from the anchor are before a date. Returns `None` if the search ends early.
    pub(crate) fn count_before(
        &self,
        anchor: Date,
        date: Date,
        count: usize,
        searches: &mut SearchBudget,
    ) -> Option<usize> {
        let mut occurrences = self.occurrences(anchor.to_datetime(Time::midnight()));
        searches.limit(&mut occurrences);
        let before = occurrences.by_ref().take(count).take_while(|occurrence| occurrence.date() < date).count();
        searches.spend(&occurrences);
        (occurrences.budget > 0).then_some(before)
    }

    /// Returns the first date after `after` of the series with this anchor.
    pub(crate) fn next_date(&self, anchor: Date, after: Date, searches: &mut SearchBudget) -> Option<Date> {
        let midnight = |date: Date| date.to_datetime(Time::midnight());
        self.next_after(midnight(anchor), midnight(after), searches).map(DateTime::date)
    }

    pub(super) fn last_time(&self) -> Option<DateTime> {
        match self.end {
            End::Never | End::Count(_) => None,
            End::Date(date) => Some(date.to_datetime(Time::MAX)),
            End::Local(time) | End::Utc(time) => Some(time),
        }
    }
}

/// An iterator over the occurrences of a rule.
pub(crate) struct Occurrences {
    periods: Periods,
    anchor: DateTime,
    times: Vec<Time>,
    set_positions: Vec<i16>,
    last_time: Option<DateTime>,
    /// How many occurrences may follow, if the rule counts them.
    remaining: Option<u32>,
    has_ended: bool,
    /// The index of the next period.
    index: i64,
    /// How many days may still be examined.
    budget: usize,
    /// The occurrences of earlier periods, in order.
    ready: VecDeque<DateTime>,
    /// Occurrences of earlier periods that may follow some of the next period, in order.
    pending: Vec<DateTime>,
    dates: Vec<Date>,
}

impl Occurrences {
    pub(super) fn new(rule: &Rule, anchor: DateTime, last_time: Option<DateTime>) -> Self {
        Self {
            periods: Periods::new(rule, anchor.date()),
            anchor,
            times: rule.times(anchor.time()),
            set_positions: rule.by_set_position.clone(),
            last_time,
            remaining: rule.count(),
            has_ended: false,
            index: FIRST_PERIOD,
            budget: MAX_DAYS_EXAMINED,
            ready: VecDeque::new(),
            pending: Vec::new(),
            dates: Vec::new(),
        }
    }

    /// Skips periods that end before `date`, unless their occurrences are counted.
    pub(super) fn skip_periods_before(&mut self, date: Date) {
        if self.remaining.is_none() {
            self.index = self.periods.index_before(date).max(FIRST_PERIOD);
        }
    }

    /// Moves the occurrences of the next period to `ready` or `pending`. Returns `None` after the last period.
    fn advance(&mut self) -> Option<()> {
        let start = self.periods.start(self.index).filter(|_| self.budget > 0)?;
        if self.last_time.is_some_and(|last| start.yesterday().is_ok_and(|before| before > last.date())) {
            return None;
        }
        self.dates.clear();
        let examined = self.periods.push_dates(start, &mut self.dates);
        self.dates.sort_unstable();
        self.dates.dedup();
        self.push_occurrences();
        self.budget = self.budget.saturating_sub(examined + self.dates.len() * self.times.len());
        self.index += 1;
        // The next period has no occurrence before the day before it.
        let next = self.periods.start(self.index).and_then(|next| next.yesterday().ok());
        let ready = next.map_or(self.pending.len(), |next| self.pending.partition_point(|time| time.date() < next));
        self.ready.extend(self.pending.drain(..ready));
        Some(())
    }

    /// Appends the occurrences on `dates` to `pending`.
    fn push_occurrences(&mut self) {
        let at = |index: usize| {
            let time = *self.times.get(index % self.times.len())?;
            Some(self.dates.get(index / self.times.len())?.to_datetime(time))
        };
        let count = self.dates.len() * self.times.len();
        let position = |position: &i16| {
            let distance = usize::from(position.unsigned_abs());
            if *position > 0 { at(distance - 1) } else { at(count.checked_sub(distance)?) }
        };
        let anchor = self.anchor;
        if self.set_positions.is_empty() {
            self.pending.extend((0..count).filter_map(at).filter(|time| *time >= anchor));
        } else {
            self.pending.extend(self.set_positions.iter().filter_map(position).filter(|time| *time >= anchor));
        }
        self.pending.sort_unstable();
        self.pending.dedup();
    }
}

impl Iterator for Occurrences {
    type Item = DateTime;

    fn next(&mut self) -> Option<DateTime> {
        while self.ready.is_empty() && !self.has_ended {
            if self.advance().is_none() {
                self.has_ended = true;
                self.ready.extend(self.pending.drain(..));
            }
        }
        let next = self.ready.pop_front()?;
        let is_last = self.remaining == Some(1);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(1));
        let is_late = self.last_time.is_some_and(|last| next > last);
        if is_last || is_late {
            self.has_ended = true;
            self.ready.clear();
        }
        (!is_late).then_some(next)
    }
}

impl FusedIterator for Occurrences {}
