//! Rules in plain English.

use std::fmt::{self, Display, Formatter};

use jiff::civil::{Date, DateTime, Time, Weekday};

use super::rule::{End, Frequency, Rule, Skip, WeekdayNumber};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WORKING_DAYS: [Weekday; 5] =
    [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];

impl Rule {
    /// Returns the rule in plain English, such as `every month on the 2nd Tuesday`.
    pub(crate) fn text(&self, anchor: DateTime) -> String {
        Text { rule: self.with_days_of(anchor.date()), times: self.selects_times().then(|| self.times(anchor.time())) }
            .to_string()
    }

    /// Returns the rule in plain English, without the days that it takes from an anchor.
    pub(crate) fn text_without_anchor(&self, anchor: DateTime) -> String {
        Text { rule: self.clone(), times: self.selects_times().then(|| self.times(anchor.time())) }.to_string()
    }
}

struct Text {
    rule: Rule,
    times: Option<Vec<Time>>,
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rule = &self.rule;
        let is_each_working_day = matches!(rule.frequency, Frequency::Daily | Frequency::Weekly)
            && rule.interval == 1
            && is_working_days(&rule.by_day)
            && rule.by_set_position.is_empty();
        match (rule.interval, self.unit()) {
            _ if is_each_working_day => write!(f, "every weekday")?,
            (1, unit) => write!(f, "every {unit}")?,
            (interval, unit) => write!(f, "every {interval} {unit}s")?,
        }
        if !rule.by_week_number.is_empty() {
            write!(f, " in the {} week", join(rule.by_week_number.iter().copied().map(ordinal)))?;
        }
        if is_each_working_day {
            self.fmt_months(f)?;
            self.fmt_month_days(f, " if it is")?;
        } else {
            self.fmt_days(f)?;
        }
        if let Some(times) = &self.times {
            write!(f, " at {}", join(times.iter().map(|time| clock(*time))))?;
        }
        self.fmt_end(f)
    }
}

impl Text {
    fn unit(&self) -> &'static str {
        match self.rule.frequency {
            Frequency::Daily => "day",
            Frequency::Weekly => "week",
            Frequency::Monthly => "month",
            Frequency::Yearly => "year",
        }
    }

    fn fmt_months(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.rule.by_month.is_empty() {
            return Ok(());
        }
        write!(f, " in {}", join(self.rule.by_month.iter().map(|month| month_name(*month))))
    }

    fn fmt_days(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rule = &self.rule;
        let is_daily = rule.frequency == Frequency::Daily;
        if let Some(month) = self.only_month() {
            write!(f, " on {month} {}", join(rule.by_month_day.iter()))?;
            self.fmt_skip(f)?;
        } else {
            self.fmt_months(f)?;
            if !rule.by_year_day.is_empty() {
                write!(f, " on the {} day of the year", join(rule.by_year_day.iter().copied().map(ordinal)))?;
            }
            let is_first = rule.by_year_day.is_empty() && !is_daily;
            self.fmt_month_days(f, if is_first { " on" } else { " if it is" })?;
        }
        if !rule.by_day.is_empty() {
            let is_first = rule.by_month_day.is_empty() && rule.by_year_day.is_empty() && !is_daily;
            f.write_str(if is_first { " on " } else { " if it is " })?;
            self.fmt_weekdays(f)?;
        }
        if rule.by_set_position.is_empty() || self.positioned_working_day().is_some() {
            return Ok(());
        }
        let positions = join(rule.by_set_position.iter().copied().map(ordinal));
        write!(f, ", but only the {positions} of these in the {}", self.unit())
    }

    /// Returns the month of a yearly rule whose days are days of this month, counted from its beginning.
    fn only_month(&self) -> Option<&'static str> {
        let rule = &self.rule;
        let days = &rule.by_month_day;
        let has_dates = rule.frequency == Frequency::Yearly && rule.by_year_day.is_empty() && !days.is_empty();
        match rule.by_month.as_slice() {
            [month] if has_dates && days.iter().all(|day| *day > 0) => Some(month_name(*month)),
            _ => None,
        }
    }

    fn fmt_month_days(&self, f: &mut Formatter<'_>, preposition: &str) -> fmt::Result {
        let days = &self.rule.by_month_day;
        if days.is_empty() {
            return Ok(());
        }
        let (last, numbers): (Vec<i16>, Vec<i16>) = days.iter().partition(|day| **day < 0);
        let last = last.into_iter().rev().map(|day| format!("{} day", ordinal(day)));
        write!(f, "{preposition} the {}", join(numbers.into_iter().map(ordinal).chain(last)))?;
        if self.rule.frequency == Frequency::Yearly && self.rule.by_month.is_empty() {
            f.write_str(" of each month")?;
        }
        self.fmt_skip(f)
    }

    /// Says what happens in months that do not have all listed days.
    fn fmt_skip(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rule = &self.rule;
        let has_day = |month: i16, day: i16| match month {
            2 => day <= 28,
            4 | 6 | 9 | 11 => day <= 30,
            _ => true,
        };
        let is_in_rule = |month: &i16| rule.by_month.is_empty() || rule.by_month.contains(month);
        let has_all = (1..=12).filter(is_in_rule).all(|month| rule.by_month_day.iter().all(|day| has_day(month, *day)));
        match rule.skip() {
            _ if has_all || rule.frequency == Frequency::Daily => Ok(()),
            Skip::Omit => f.write_str(" (not in shorter months)"),
            Skip::Backward => f.write_str(" (or the last day of a shorter month)"),
            Skip::Forward => f.write_str(" (or the day after a shorter month)"),
        }
    }

    fn fmt_weekdays(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rule = &self.rule;
        if let Some(position) = self.positioned_working_day() {
            return write!(f, "the {} weekday", ordinal(position));
        }
        if is_working_days(&rule.by_day) {
            return f.write_str("weekdays");
        }
        let name = |day: &WeekdayNumber| match day.ordinal {
            0 => weekday_name(day.weekday).to_owned(),
            number => format!("the {} {}", ordinal(number), weekday_name(day.weekday)),
        };
        f.write_str(&join(rule.by_day.iter().map(name)))?;
        let is_in_year = rule.frequency == Frequency::Yearly && rule.by_month.is_empty();
        let has_ordinals = rule.by_day.iter().any(|day| day.ordinal != 0);
        f.write_str(if is_in_year && has_ordinals { " of the year" } else { "" })
    }

    /// Returns `n` if the rule selects the nth working day of each period.
    fn positioned_working_day(&self) -> Option<i16> {
        let rule = &self.rule;
        match rule.by_set_position.as_slice() {
            [position] if is_working_days(&rule.by_day) && rule.by_month_day.is_empty() && self.times.is_none() => {
                (rule.frequency == Frequency::Monthly).then_some(*position)
            }
            _ => None,
        }
    }

    fn fmt_end(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.rule.end {
            End::Never => Ok(()),
            End::Count(1) => f.write_str(", once"),
            End::Count(count) => write!(f, ", {count} times"),
            End::Date(date) => write!(f, ", until {}", long_date(date)),
            End::Local(time) => write!(f, ", until {} at {}", long_date(time.date()), clock(time.time())),
            End::Utc(time) => write!(f, ", until {} at {} UTC", long_date(time.date()), clock(time.time())),
        }
    }
}

fn is_working_days(days: &[WeekdayNumber]) -> bool {
    days.iter().map(|day| (day.ordinal, day.weekday)).eq(WORKING_DAYS.map(|weekday| (0, weekday)))
}

/// Joins `a`, `b` and `c` to `a, b and c`.
fn join(items: impl Iterator<Item = impl Display>) -> String {
    let mut items: Vec<_> = items.map(|item| item.to_string()).collect();
    match items.pop() {
        Some(last) if !items.is_empty() => format!("{} and {last}", items.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn ordinal(number: i16) -> String {
    if number == -1 {
        return "last".to_owned();
    }
    let absolute = number.unsigned_abs();
    let suffix = match (absolute % 10, absolute % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{absolute}{suffix}{}", if number < 0 { "-to-last" } else { "" })
}

fn month_name(month: i16) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).copied().unwrap_or_default()
}

fn weekday_name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn long_date(date: Date) -> String {
    format!("{} {}, {}", month_name(date.month().into()), date.day(), date.year())
}

fn clock(time: Time) -> String {
    match time.second() {
        0 => format!("{:02}:{:02}", time.hour(), time.minute()),
        second => format!("{:02}:{:02}:{second:02}", time.hour(), time.minute()),
    }
}
