//! Parses recurrence rules.

use std::ops::RangeInclusive;

use jiff::civil::{Date, Time, Weekday};

use super::rule::{End, Frequency, Rule, RuleError, Skip, WeekdayNumber};

/// Maximum length of a rule.
pub(crate) const MAX_BYTES: usize = 500;
/// Maximum of `INTERVAL`.
const MAX_INTERVAL: i32 = 1000;
/// Maximum of `COUNT`.
const MAX_COUNT: i32 = 10_000;
/// Maximum number of occurrences per day, from `BYHOUR`, `BYMINUTE` and `BYSECOND`.
const MAX_TIMES_PER_DAY: usize = 24;

const NAMES: [&str; 16] = [
    "RSCALE",
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYMONTH",
    "BYWEEKNO",
    "BYYEARDAY",
    "BYMONTHDAY",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "BYSETPOS",
    "WKST",
    "SKIP",
];

/// The position of an error in bytes, and its description.
type Error = (usize, String);

impl Rule {
    /// Parses a rule. Letter case is ignored, and the rule may begin with `RRULE:`.
    ///
    /// # Errors
    /// If the text is not a rule, or exceeds a limit.
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > MAX_BYTES {
            let column = text.char_indices().filter(|(at, c)| at + c.len_utf8() <= MAX_BYTES).count() + 1;
            return Err(RuleError { column, description: format!("a rule must have at most {MAX_BYTES} bytes") });
        }
        Self::parse_unbounded(text)
    }

    /// Parses a rule of any length: the canonical form can be longer than the rule was.
    ///
    /// # Errors
    /// If the text is not a rule.
    pub(crate) fn parse_unbounded(text: &str) -> Result<Self, RuleError> {
        let upper = text.to_ascii_uppercase();
        parse(&upper).map_err(|(at, description)| RuleError { column: text[..at].chars().count() + 1, description })
    }
}

fn parse(text: &str) -> Result<Rule, Error> {
    let mut parser = Parser { rule: Rule::every(Frequency::Daily), seen: Vec::new() };
    let rest = text.strip_prefix("RRULE:").unwrap_or(text);
    for part in (Token { at: text.len() - rest.len(), text: rest }).split(';') {
        let Some((name, value)) = part.text.split_once('=') else {
            return part.error("a part must have the form NAME=VALUE");
        };
        let value = Token { at: part.at + name.len() + 1, text: value };
        parser.parse_part(Token { at: part.at, text: name }, value)?;
    }
    parser.check_combination()?;
    Ok(parser.rule)
}

struct Parser {
    rule: Rule,
    /// The names and positions of the parts that were parsed.
    seen: Vec<(&'static str, usize)>,
}

impl Parser {
    fn parse_part(&mut self, name: Token<'_>, value: Token<'_>) -> Result<(), Error> {
        let Some(known) = NAMES.into_iter().find(|known| *known == name.text) else {
            return name.error(format!("unknown part; the parts are {}", NAMES.join(", ")));
        };
        if self.position(known).is_some() {
            return name.error(format!("{known} must not be repeated"));
        }
        if (known == "COUNT" && self.position("UNTIL").is_some())
            || (known == "UNTIL" && self.position("COUNT").is_some())
        {
            return name.error("a rule must not have both COUNT and UNTIL");
        }
        self.seen.push((known, name.at));
        let rule = &mut self.rule;
        match known {
            "RSCALE" if value.text == "GREGORIAN" => {}
            "RSCALE" => return value.error("RSCALE must be GREGORIAN"),
            "FREQ" => rule.frequency = value.choice(known, &Frequency::ALL.map(|freq| (freq.name(), freq)))?,
            "INTERVAL" => rule.interval = value.number(known, 1..=MAX_INTERVAL)?,
            "COUNT" => rule.end = End::Count(value.number(known, 1..=MAX_COUNT)?),
            "UNTIL" => rule.end = value.until()?,
            "BYMONTH" => rule.by_month = value.numbers(known, 1..=12)?,
            "BYWEEKNO" => rule.by_week_number = value.ordinals(known, 53)?,
            "BYYEARDAY" => rule.by_year_day = value.ordinals(known, 366)?,
            "BYMONTHDAY" => rule.by_month_day = value.ordinals(known, 31)?,
            "BYDAY" => rule.by_day = value.weekdays()?,
            "BYHOUR" => rule.by_hour = value.numbers(known, 0..=23)?,
            "BYMINUTE" => rule.by_minute = value.numbers(known, 0..=59)?,
            "BYSECOND" => rule.by_second = value.numbers(known, 0..=59)?,
            "BYSETPOS" => rule.by_set_position = value.ordinals(known, 366)?,
            "WKST" => rule.week_start = value.choice(known, &WeekdayNumber::NAMES)?,
            _ => rule.skip = Some(value.choice(known, &Skip::ALL.map(|skip| (skip.name(), skip)))?),
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.seen.iter().find(|seen| seen.0 == name).map(|seen| seen.1)
    }

    /// Checks the combinations that RFC 5545, section 3.3.10, excludes.
    fn check_combination(&self) -> Result<(), Error> {
        let rule = &self.rule;
        let is_yearly = rule.frequency == Frequency::Yearly;
        let has_ordinals = rule.by_day.iter().any(|day| day.ordinal != 0);
        let times: usize =
            [&rule.by_hour, &rule.by_minute, &rule.by_second].map(|list| list.len().max(1)).iter().product();
        let selects = self.seen.iter().any(|(name, _)| name.starts_with("BY") && *name != "BYSETPOS");
        let too_many = format!("a rule must have at most {MAX_TIMES_PER_DAY} occurrences per day");
        let checks = [
            ("BYWEEKNO", is_yearly, "BYWEEKNO requires FREQ=YEARLY"),
            ("BYYEARDAY", is_yearly, "BYYEARDAY requires FREQ=YEARLY"),
            ("BYMONTHDAY", rule.frequency != Frequency::Weekly, "BYMONTHDAY cannot be used with FREQ=WEEKLY"),
            (
                "BYDAY",
                !has_ordinals || is_yearly || rule.frequency == Frequency::Monthly,
                "numbers in BYDAY require FREQ=MONTHLY or FREQ=YEARLY",
            ),
            ("BYDAY", !has_ordinals || rule.by_week_number.is_empty(), "numbers in BYDAY cannot be used with BYWEEKNO"),
            ("BYSETPOS", selects, "BYSETPOS requires another BY part"),
            ("BYHOUR", times <= MAX_TIMES_PER_DAY, &too_many),
            ("BYMINUTE", times <= MAX_TIMES_PER_DAY, &too_many),
            ("BYSECOND", times <= MAX_TIMES_PER_DAY, &too_many),
        ];
        if self.position("FREQ").is_none() {
            return Err((0, "a rule must have the part FREQ".to_owned()));
        }
        for (name, is_valid, description) in checks {
            if let (Some(at), false) = (self.position(name), is_valid) {
                return Err((at, description.to_owned()));
            }
        }
        Ok(())
    }
}

/// A piece of the rule.
#[derive(Clone, Copy)]
struct Token<'a> {
    /// The position in the rule, in bytes.
    at: usize,
    text: &'a str,
}

impl Token<'_> {
    fn error<T>(self, description: impl Into<String>) -> Result<T, Error> {
        Err((self.at, description.into()))
    }

    fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut at = self.at;
        self.text.split(separator).map(move |text| {
            let token = Token { at, text };
            at += text.len() + 1;
            token
        })
    }

    fn choice<T: Copy>(self, name: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let names: Vec<_> = choices.iter().map(|choice| choice.0).collect();
        let found = choices.iter().find(|choice| choice.0 == self.text);
        found.map_or_else(|| self.error(format!("{name} must be one of {}", names.join(", "))), |choice| Ok(choice.1))
    }

    /// Parses digits only, where [`str::parse`] accepts a sign.
    fn digits(self) -> Option<i32> {
        let is_number = !self.text.is_empty() && self.text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| self.text.parse().ok()).flatten()
    }

    fn number<T: TryFrom<i32>>(self, name: &str, range: RangeInclusive<i32>) -> Result<T, Error> {
        match self.digits().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.error(format!("{name} must be from {} to {}", range.start(), range.end())),
        }
    }

    fn numbers(self, name: &str, range: RangeInclusive<i32>) -> Result<Vec<i16>, Error> {
        self.list(|item| item.number(name, range.clone()))
    }

    /// Parses a list of numbers from 1 to `max`, or negative ones that count from the end.
    fn ordinals(self, name: &str, max: i32) -> Result<Vec<i16>, Error> {
        self.list(|item| match item.ordinal(max) {
            Some(ordinal) => Ok(ordinal),
            None => item.error(format!("{name} must be from 1 to {max} or from -1 to -{max}")),
        })
    }

    fn ordinal(self, max: i32) -> Option<i16> {
        let (sign, text) = match self.text.strip_prefix('-') {
            Some(text) => (-1, text),
            None => (1, self.text.strip_prefix('+').unwrap_or(self.text)),
        };
        let number = Token { text, ..self }.digits().filter(|number| (1..=max).contains(number))?;
        i16::try_from(number * sign).ok()
    }

    fn list(self, parse: impl Fn(Self) -> Result<i16, Error>) -> Result<Vec<i16>, Error> {
        let mut list = self.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    fn weekdays(self) -> Result<Vec<WeekdayNumber>, Error> {
        let mut days = self.split(',').map(Self::weekday).collect::<Result<Vec<_>, _>>()?;
        days.sort_unstable_by_key(|day| (day.ordinal, day.weekday.to_monday_zero_offset()));
        days.dedup();
        Ok(days)
    }

    fn weekday(self) -> Result<WeekdayNumber, Error> {
        let error = "BYDAY must be a list of MO, TU, WE, TH, FR, SA, SU, each with an optional number from 1 to 53 or from -1 to -53";
        let split = self.text.len().checked_sub(2).and_then(|middle| self.text.split_at_checked(middle));
        let weekday = |name| -> Option<Weekday> {
            WeekdayNumber::NAMES.into_iter().find(|named| named.0 == name).map(|named| named.1)
        };
        match split.map(|(number, name)| (number, weekday(name))) {
            Some(("", Some(weekday))) => Ok(WeekdayNumber { ordinal: 0, weekday }),
            Some((text, Some(weekday))) => match (Token { text, ..self }).ordinal(53) {
                Some(ordinal) => Ok(WeekdayNumber { ordinal, weekday }),
                None => self.error(error),
            },
            _ => self.error(error),
        }
    }

    fn until(self) -> Result<End, Error> {
        let error = "UNTIL must be a date such as 20261231, or a time such as 20261231T090000 or 20261231T090000Z";
        self.end().map_or_else(|| self.error(error), Ok)
    }

    fn end(self) -> Option<End> {
        let (date, time) = match self.text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (self.text, None),
        };
        let [century, year, month, day] = pairs(date)?;
        let date = Date::new(i16::from(century) * 100 + i16::from(year), month, day).ok()?;
        let Some(time) = time else { return Some(End::Date(date)) };
        let [hour, minute, second] = pairs(time.strip_suffix('Z').unwrap_or(time))?;
        let time_of_day = Time::new(hour, minute, second, 0).ok()?;
        let datetime = date.to_datetime(time_of_day);
        Some(if time.ends_with('Z') { End::Utc(datetime) } else { End::Local(datetime) })
    }
}

/// Returns numbers of two digits each.
fn pairs<const N: usize>(text: &str) -> Option<[i8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut numbers = [0; N];
    for (number, pair) in numbers.iter_mut().zip(bytes.chunks_exact(2)) {
        *number = i8::try_from((pair[0] - b'0') * 10 + pair[1] - b'0').ok()?;
    }
    Some(numbers)
}
