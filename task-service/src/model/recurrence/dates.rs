//! The periods of a rule, and the dates in each of them.

use jiff::{
    SignedDuration, ToSpan,
    civil::{Date, Weekday},
};

use super::rule::{Frequency, Rule, Skip, WeekdayNumber};

/// The periods of a rule whose days are complete ([`Rule::with_days_of`]).
pub(super) struct Periods {
    rule: Rule,
    anchor: Date,
}

impl Periods {
    pub(super) fn new(rule: &Rule, anchor: Date) -> Self {
        Self { rule: rule.with_days_of(anchor), anchor }
    }

    /// Returns the first day of the period with this index; the anchor is in period 0. Returns `None` after the year 9999.
    pub(super) fn start(&self, index: i64) -> Option<Date> {
        let steps = index.checked_mul(self.rule.interval.into())?;
        match self.rule.frequency {
            Frequency::Daily => add_days(self.anchor, steps),
            Frequency::Weekly => add_days(self.start_of_week(self.anchor)?, steps.checked_mul(7)?),
            Frequency::Monthly => self.anchor.first_of_month().checked_add(i32::try_from(steps).ok()?.months()).ok(),
            Frequency::Yearly if self.rule.by_week_number.is_empty() => {
                Date::new(year_after(self.anchor.year(), steps)?, 1, 1).ok()
            }
            Frequency::Yearly => self.start_of_week_year(year_after(self.week_year(self.anchor)?, steps)?),
        }
    }

    /// Returns the index of a period before those that can contain dates after `date`. It is early by two periods, because
    /// years of weeks begin in other years, and because skipped days may be replaced by days of another period.
    pub(super) fn index_before(&self, date: Date) -> i64 {
        let steps = match self.rule.frequency {
            Frequency::Daily => days_between(self.anchor, date),
            Frequency::Weekly => days_between(self.anchor, date) / 7,
            Frequency::Monthly => {
                let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
                months(date) - months(self.anchor)
            }
            Frequency::Yearly => i64::from(date.year()) - i64::from(self.anchor.year()),
        };
        steps / i64::from(self.rule.interval) - 2
    }

    /// Appends the dates of the period that starts with `start`, in no order and perhaps repeated. Days that a month or
    /// year does not have may be replaced by a day just before or after the period. Returns the number of days examined,
    /// which is at least 1.
    pub(super) fn push_dates(&self, start: Date, dates: &mut Vec<Date>) -> usize {
        let rule = &self.rule;
        let mut examined = 1;
        match rule.frequency {
            Frequency::Daily => {
                let is_match = self.is_in_months(start) && (rule.by_month_day.is_empty() || self.is_month_day(start));
                dates.extend(is_match.then_some(start));
            }
            Frequency::Weekly => dates.extend(days_from(start, 7).filter(|date| self.is_in_months(*date))),
            Frequency::Monthly if !self.is_in_months(start) => {}
            Frequency::Monthly => self.push_month(start, dates),
            Frequency::Yearly if rule.by_week_number.is_empty() => examined += self.push_year(start.year(), dates),
            Frequency::Yearly => examined += self.push_weeks(start, dates),
        }
        examined += dates.len();
        dates.retain(|date| self.is_weekday(*date));
        examined
    }

    fn push_month(&self, first: Date, dates: &mut Vec<Date>) {
        match self.rule.by_month_day.as_slice() {
            [] => dates.extend(days_from(first, first.days_in_month())),
            days => dates.extend(
                days.iter().filter_map(|&day| ordinal_day(first, first.last_of_month(), day, self.rule.skip())),
            ),
        }
    }

    /// Appends the dates of a year. Returns the number of days examined in order to find them.
    fn push_year(&self, year: i16, dates: &mut Vec<Date>) -> usize {
        let Ok(first) = Date::new(year, 1, 1) else { return 0 };
        let year_day = |&day: &i16| ordinal_day(first, first.last_of_year(), day, self.rule.skip());
        let mut year_days: Vec<_> = self.rule.by_year_day.iter().filter_map(year_day).collect();
        year_days.sort_unstable();
        let mut month_days = Vec::new();
        for month in (1..=12).filter_map(|month| Date::new(year, month, 1).ok()) {
            if self.is_in_months(month) {
                self.push_month(month, &mut month_days);
            }
        }
        let examined = month_days.len() + year_days.len();
        match (self.rule.by_year_day.is_empty(), self.rule.by_month_day.is_empty()) {
            (true, _) => dates.append(&mut month_days),
            (false, true) => dates.extend(year_days.into_iter().filter(|date| self.is_in_months(*date))),
            (false, false) => dates.extend(month_days.into_iter().filter(|date| year_days.binary_search(date).is_ok())),
        }
        examined
    }

    /// Appends the dates of a year of weeks. Returns the number of days examined in order to find them.
    fn push_weeks(&self, start: Date, dates: &mut Vec<Date>) -> usize {
        // The first week has at least four days of the calendar year.
        let Some(year) = add_days(start, 3).map(Date::year) else { return 0 };
        let next = year.checked_add(1).and_then(|year| self.start_of_week_year(year));
        let weeks = next.map_or(52, |next| days_between(start, next) / 7);
        for &number in &self.rule.by_week_number {
            let number = i64::from(number);
            let index = if number > 0 { number - 1 } else { weeks + number };
            if (0..weeks).contains(&index)
                && let Some(first) = add_days(start, index * 7)
            {
                dates.extend(days_from(first, 7));
            }
        }
        if self.rule.by_month_day.is_empty() && self.rule.by_year_day.is_empty() {
            let examined = dates.len();
            dates.retain(|date| self.is_in_months(*date));
            return examined;
        }
        let (mut selected, mut examined) = (Vec::new(), dates.len());
        for year in year.saturating_sub(1)..=year.saturating_add(1) {
            examined += self.push_year(year, &mut selected);
        }
        selected.sort_unstable();
        dates.retain(|date| selected.binary_search(date).is_ok());
        examined
    }

    fn is_in_months(&self, date: Date) -> bool {
        self.rule.by_month.is_empty() || self.rule.by_month.contains(&date.month().into())
    }

    fn is_month_day(&self, date: Date) -> bool {
        let day = i16::from(date.day());
        let from_end = day - i16::from(date.days_in_month()) - 1;
        self.rule.by_month_day.iter().any(|&listed| listed == day || listed == from_end)
    }

    fn is_weekday(&self, date: Date) -> bool {
        let is_match = |listed: &WeekdayNumber| {
            listed.weekday == date.weekday() && (listed.ordinal == 0 || self.is_ordinal(date, listed.ordinal))
        };
        self.rule.by_day.is_empty() || self.rule.by_day.iter().any(is_match)
    }

    /// Reports whether the weekday of `date` occurs for this time in the month, or in the year.
    fn is_ordinal(&self, date: Date, ordinal: i16) -> bool {
        let in_month = self.rule.frequency == Frequency::Monthly || !self.rule.by_month.is_empty();
        let (day, days) = if in_month {
            (date.day().into(), date.days_in_month().into())
        } else {
            (date.day_of_year(), date.days_in_year())
        };
        if ordinal > 0 { (day - 1) / 7 + 1 == ordinal } else { (days - day) / 7 + 1 == -ordinal }
    }

    fn start_of_week(&self, date: Date) -> Option<Date> {
        start_of_week(date, self.rule.week_start)
    }

    /// Returns the first day of the first week that has at least four days in the year.
    fn start_of_week_year(&self, year: i16) -> Option<Date> {
        self.start_of_week(Date::new(year, 1, 4).ok()?)
    }

    /// Returns the year to which the week of `date` belongs.
    fn week_year(&self, date: Date) -> Option<i16> {
        add_days(self.start_of_week(date)?, 3).map(Date::year)
    }
}

/// Returns the day with this number between `first` and `last`, from the end if it is negative.
fn ordinal_day(first: Date, last: Date, ordinal: i16, skip: Skip) -> Option<Date> {
    let days = days_between(first, last) + 1;
    let ordinal = i64::from(ordinal);
    match (ordinal > 0, ordinal.abs() <= days, skip) {
        (true, true, _) => add_days(first, ordinal - 1),
        (false, true, _) => add_days(last, ordinal + 1),
        (_, false, Skip::Omit) => None,
        (true, false, Skip::Backward) => Some(last),
        (true, false, Skip::Forward) => last.tomorrow().ok(),
        (false, false, Skip::Backward) => first.yesterday().ok(),
        (false, false, Skip::Forward) => Some(first),
    }
}

fn start_of_week(date: Date, week_start: Weekday) -> Option<Date> {
    add_days(date, -i64::from(date.weekday().since(week_start)))
}

fn days_from(first: Date, count: i8) -> impl Iterator<Item = Date> {
    let mut next = Some(first);
    (0..count).map_while(move |_| {
        let date = next?;
        next = date.tomorrow().ok();
        Some(date)
    })
}

fn add_days(date: Date, days: i64) -> Option<Date> {
    date.checked_add(SignedDuration::from_hours(days.checked_mul(24)?)).ok()
}

fn days_between(start: Date, end: Date) -> i64 {
    start.duration_until(end).as_hours() / 24
}

fn year_after(year: i16, steps: i64) -> Option<i16> {
    (i64::from(year) + steps).try_into().ok()
}
