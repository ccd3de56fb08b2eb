//! The rules of the recurring dates of Todoist in English.

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

const WORKDAYS: &str = "MO,TU,WE,TH,FR";

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Months and weekdays can be shortened to this number of characters.
const MIN_NAME_CHARS: usize = 3;

const ORDINALS: [(&str, i8); 5] = [("last", -1), ("first", 1), ("second", 2), ("third", 3), ("fourth", 4)];

/// Returns the rule for the words that follow `every`, without a time, a start and an end.
pub(crate) fn rule(words: &[&str]) -> Option<String> {
    interval_rule(words).or_else(|| list_rule(words))
}

/// Returns the rule for a number of units, such as `3 days` or `other week`.
fn interval_rule(words: &[&str]) -> Option<String> {
    let (count, unit) = match words {
        [unit] => (1, unit),
        ["other", unit] => (2, unit),
        [count, unit] => (count.parse::<u16>().ok()?, unit),
        _ => return None,
    };
    let (frequency, months) = match unit.strip_suffix('s').unwrap_or(unit) {
        "day" => ("DAILY", 1),
        "week" => ("WEEKLY", 1),
        "month" => ("MONTHLY", 1),
        "quarter" => ("MONTHLY", 3),
        "year" => ("YEARLY", 1),
        _ => return None,
    };
    Some(format!("FREQ={frequency};INTERVAL={}", u32::from(count) * months))
}

/// Returns the rule for a list of days, which must differ in one part of the rule.
fn list_rule(words: &[&str]) -> Option<String> {
    let (interval, words) = match words {
        ["other", rest @ ..] => (";INTERVAL=2", rest),
        _ => ("", words),
    };
    let items: Vec<_> = words.split(|word| *word == ",").filter(|item| !item.is_empty()).map(item_rule).collect();
    let items: Vec<_> = items.into_iter().collect::<Option<_>>()?;
    let (rule, part, _) = items.first()?;
    let is_one_rule = items.iter().all(|item| (&item.0, item.1) == (rule, *part));
    let values: Vec<_> = items.iter().map(|item| &*item.2).collect();
    let is_permitted = is_one_rule && (interval.is_empty() || (rule == "FREQ=WEEKLY" && !values.contains(&WORKDAYS)));
    is_permitted.then(|| format!("{rule}{interval};{part}={}", values.join(",")))
}

/// Returns the rule for an item of a list, without its last part, and the name and the value of that part.
fn item_rule(words: &[&str]) -> Option<(String, &'static str, String)> {
    let monthly = |part, value| Some(("FREQ=MONTHLY".to_owned(), part, value));
    match words {
        ["weekday" | "workday"] => Some(("FREQ=WEEKLY".to_owned(), "BYDAY", WORKDAYS.to_owned())),
        ["weekend"] => Some(("FREQ=WEEKLY".to_owned(), "BYDAY", "SA".to_owned())),
        ["last", "day"] => monthly("BYMONTHDAY", "-1".to_owned()),
        [word] => match weekday(word) {
            Some(day) => Some(("FREQ=WEEKLY".to_owned(), "BYDAY", day)),
            None => monthly("BYMONTHDAY", month_day(word)?.to_string()),
        },
        [number, "weekday" | "workday"] => {
            Some((format!("FREQ=MONTHLY;BYDAY={WORKDAYS}"), "BYSETPOS", ordinal(number)?.to_string()))
        }
        [day, "of", name] | [day, name] | [name, day] if month(name).is_some() => {
            Some((format!("FREQ=YEARLY;BYMONTHDAY={}", month_day(day)?), "BYMONTH", month(name)?))
        }
        [number, day] => monthly("BYDAY", format!("{}{}", ordinal(number)?, weekday(day)?)),
        [number, day, "of", name] | [number, day, name] => {
            let rule = format!("FREQ=YEARLY;BYMONTH={}", month(name)?);
            Some((rule, "BYDAY", format!("{}{}", ordinal(number)?, weekday(day)?)))
        }
        _ => None,
    }
}

/// Parses `first`, `last`, or a number such as `3rd`.
fn ordinal(word: &str) -> Option<i8> {
    let named = ORDINALS.into_iter().find(|(name, _)| *name == word).map(|(_, number)| number);
    named.or_else(|| {
        let digits = ["st", "nd", "rd", "th"].into_iter().find_map(|suffix| word.strip_suffix(suffix))?;
        digits.parse().ok().filter(|number| *number > 0)
    })
}

/// Parses the day of a month, such as `3` or `3rd`.
fn month_day(word: &str) -> Option<i8> {
    word.parse().ok().or_else(|| ordinal(word)).filter(|day| *day > 0)
}

/// Returns the name of a weekday in rules.
fn weekday(word: &str) -> Option<String> {
    let index = position(&WEEKDAYS, word).or_else(|| position(&WEEKDAYS, word.strip_suffix('s')?))?;
    Some(WEEKDAYS[index][..2].to_ascii_uppercase())
}

/// Returns the number of a month.
fn month(word: &str) -> Option<String> {
    position(&MONTHS, word).map(|index| (index + 1).to_string())
}

/// Returns the position of a name, which can be shortened.
fn position(names: &[&str], word: &str) -> Option<usize> {
    names.iter().position(|name| word.len() >= MIN_NAME_CHARS && name.starts_with(word))
}
