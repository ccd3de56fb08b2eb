mod examples;
mod parser;
mod properties;
mod series;
mod texts;
mod vectors;
mod zones;

use jiff::civil::DateTime;

use super::Rule;

/// Parses a rule of a test.
fn rule(text: &str) -> Rule {
    Rule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn time(text: &str) -> DateTime {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns the first dates of a series, separated by blanks.
fn dates(text: &str, anchor: &str, count: usize) -> String {
    let dates: Vec<_> = rule(text).dates(time(anchor).date()).take(count).map(|date| date.to_string()).collect();
    dates.join(" ")
}
