//! The types of recurrence rules, and their canonical form.

use std::fmt::{self, Display, Formatter};

use jiff::civil::{Date, DateTime, Time, Weekday};
use serde::{Deserialize, Serialize};

/// A valid recurrence rule. Its `Display` is the canonical form, from which it can be parsed again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Rule {
    pub(super) frequency: Frequency,
    /// At least 1.
    pub(super) interval: i16,
    pub(super) end: End,
    /// All lists are sorted and without duplicates. An empty one is a part that the rule does not have.
    pub(super) by_month: Vec<i16>,
    pub(super) by_week_number: Vec<i16>,
    pub(super) by_year_day: Vec<i16>,
    pub(super) by_month_day: Vec<i16>,
    pub(super) by_day: Vec<WeekdayNumber>,
    pub(super) by_hour: Vec<i16>,
    pub(super) by_minute: Vec<i16>,
    pub(super) by_second: Vec<i16>,
    pub(super) by_set_position: Vec<i16>,
    pub(super) week_start: Weekday,
    /// `None` if the rule does not say, which means [`Skip::Backward`].
    pub(super) skip: Option<Skip>,
}

impl Rule {
    /// Returns the rule that recurs once in each period, as the anchor does.
    pub(super) fn every(frequency: Frequency) -> Self {
        Self {
            frequency,
            interval: 1,
            end: End::Never,
            by_month: Vec::new(),
            by_week_number: Vec::new(),
            by_year_day: Vec::new(),
            by_month_day: Vec::new(),
            by_day: Vec::new(),
            by_hour: Vec::new(),
            by_minute: Vec::new(),
            by_second: Vec::new(),
            by_set_position: Vec::new(),
            week_start: Weekday::Monday,
            skip: None,
        }
    }

    /// Returns the rule with the days that it takes from the anchor, because no part selects days.
    pub(super) fn with_days_of(&self, anchor: Date) -> Self {
        let mut rule = self.clone();
        let selects_days = !(rule.by_year_day.is_empty() && rule.by_month_day.is_empty() && rule.by_day.is_empty());
        if selects_days || rule.frequency == Frequency::Daily {
            return rule;
        }
        if rule.frequency == Frequency::Weekly || !rule.by_week_number.is_empty() {
            rule.by_day = vec![WeekdayNumber { ordinal: 0, weekday: anchor.weekday() }];
            return rule;
        }
        rule.by_month_day = vec![anchor.day().into()];
        if rule.frequency == Frequency::Yearly && rule.by_month.is_empty() {
            rule.by_month = vec![anchor.month().into()];
        }
        rule
    }

    /// Returns the times of day, in order. A part that the rule does not have is taken from the anchor.
    pub(super) fn times(&self, anchor: Time) -> Vec<Time> {
        let or_anchor = |list: &[i16], value: i8| match list {
            [] => vec![value.into()],
            list => list.to_vec(),
        };
        let hours = or_anchor(&self.by_hour, anchor.hour());
        let minutes = or_anchor(&self.by_minute, anchor.minute());
        let seconds = or_anchor(&self.by_second, anchor.second());
        let fraction = anchor.subsec_nanosecond();
        let mut times = Vec::with_capacity(hours.len() * minutes.len() * seconds.len());
        for hour in hours {
            for &minute in &minutes {
                times.extend(seconds.iter().filter_map(|&second| time(hour, minute, second, fraction)));
            }
        }
        times
    }

    /// Reports whether the rule selects times of day, which a series of dates does not have.
    pub(crate) fn selects_times(&self) -> bool {
        !(self.by_hour.is_empty() && self.by_minute.is_empty() && self.by_second.is_empty())
    }

    /// Returns the number of occurrences, if the rule limits it.
    pub(crate) fn count(&self) -> Option<u32> {
        if let End::Count(count) = self.end { Some(count) } else { None }
    }

    /// Returns the rule without a limit of the number of occurrences.
    pub(super) fn without_count(&self) -> Self {
        Self { end: self.count().map_or(self.end, |_| End::Never), ..self.clone() }
    }

    pub(super) fn skip(&self) -> Skip {
        self.skip.unwrap_or(Skip::Backward)
    }
}

fn time(hour: i16, minute: i16, second: i16, nanosecond: i32) -> Option<Time> {
    Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, nanosecond).ok()
}

/// The length of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Frequency {
    pub(super) const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Daily => "DAILY",
            Self::Weekly => "WEEKLY",
            Self::Monthly => "MONTHLY",
            Self::Yearly => "YEARLY",
        }
    }
}

/// When a series ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Never,
    /// After this number of occurrences, counted from the anchor.
    Count(u32),
    /// With this day, in the time zone of the series.
    Date(Date),
    /// At this time, in the time zone of the series.
    Local(DateTime),
    /// At this time, in UTC.
    Utc(DateTime),
}

/// What replaces a day that its month or year does not have (RFC 7529, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// Nothing.
    Omit,
    /// The day before.
    Backward,
    /// The day after.
    Forward,
}

impl Skip {
    pub(super) const ALL: [Self; 3] = [Self::Omit, Self::Backward, Self::Forward];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Omit => "OMIT",
            Self::Backward => "BACKWARD",
            Self::Forward => "FORWARD",
        }
    }
}

/// A weekday in `BYDAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WeekdayNumber {
    /// Which one of the month or year, from the end if negative; 0 selects all of them.
    pub(super) ordinal: i16,
    pub(super) weekday: Weekday,
}

impl WeekdayNumber {
    /// The weekdays with their names, from Monday.
    pub(super) const NAMES: [(&'static str, Weekday); 7] = [
        ("MO", Weekday::Monday),
        ("TU", Weekday::Tuesday),
        ("WE", Weekday::Wednesday),
        ("TH", Weekday::Thursday),
        ("FR", Weekday::Friday),
        ("SA", Weekday::Saturday),
        ("SU", Weekday::Sunday),
    ];
}

impl Display for WeekdayNumber {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.ordinal != 0 {
            self.ordinal.fmt(f)?;
        }
        f.write_str(weekday_name(self.weekday))
    }
}

fn weekday_name(weekday: Weekday) -> &'static str {
    WeekdayNumber::NAMES.into_iter().find(|named| named.1 == weekday).map_or("", |named| named.0)
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.skip.is_some() {
            f.write_str("RSCALE=GREGORIAN;")?;
        }
        write!(f, "FREQ={}", self.frequency.name())?;
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        self.end.fmt(f)?;
        write_list(f, "BYMONTH", &self.by_month)?;
        write_list(f, "BYWEEKNO", &self.by_week_number)?;
        write_list(f, "BYYEARDAY", &self.by_year_day)?;
        write_list(f, "BYMONTHDAY", &self.by_month_day)?;
        write_list(f, "BYDAY", &self.by_day)?;
        write_list(f, "BYHOUR", &self.by_hour)?;
        write_list(f, "BYMINUTE", &self.by_minute)?;
        write_list(f, "BYSECOND", &self.by_second)?;
        write_list(f, "BYSETPOS", &self.by_set_position)?;
        if self.week_start != Weekday::Monday {
            write!(f, ";WKST={}", weekday_name(self.week_start))?;
        }
        self.skip.map_or(Ok(()), |skip| write!(f, ";SKIP={}", skip.name()))
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        Self::parse_unbounded(&text)
    }
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => Ok(()),
            Self::Count(count) => write!(f, ";COUNT={count}"),
            Self::Date(date) => write!(f, ";UNTIL={}", date.strftime("%Y%m%d")),
            Self::Local(time) => write!(f, ";UNTIL={}", time.strftime("%Y%m%dT%H%M%S")),
            Self::Utc(time) => write!(f, ";UNTIL={}", time.strftime("%Y%m%dT%H%M%SZ")),
        }
    }
}

fn write_list(f: &mut Formatter<'_>, name: &str, list: &[impl Display]) -> fmt::Result {
    for (index, item) in list.iter().enumerate() {
        if index == 0 { write!(f, ";{name}={item}") } else { write!(f, ",{item}") }?;
    }
    Ok(())
}

/// Why a text is not a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleError {
    /// Where the error is, in characters from 1.
    pub(crate) column: usize,
    /// What is wrong. Does not quote the rule.
    pub(crate) description: String,
}

impl Display for RuleError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.description)
    }
}
