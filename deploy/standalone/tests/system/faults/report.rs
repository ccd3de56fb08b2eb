//! Prints measurements to standard error, bypassing the capture of the test harness.

use std::{
    env,
    io::{self, Write},
    time::Duration,
};

/// Added to every time limit, because the machine may be busy with other tests.
pub const LOAD_ALLOWANCE: Duration = Duration::from_millis(1500);

/// Returns the number of rounds of a test. `make test-faults` sets a higher number.
pub fn rounds(default: usize) -> usize {
    env::var("TASKEY_TEST_ROUNDS").map_or(default, |rounds| rounds.parse().expect("TASKEY_TEST_ROUNDS is a number"))
}

pub fn report_value(what: &str, value: impl std::fmt::Display) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    _ = writeln!(io::stderr(), "measured: {name}: {what}: {value}");
}

/// Returns the median.
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// Returns this percentile.
pub fn percentile(percent: usize, mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[(values.len() * percent).div_ceil(100).max(1) - 1]
}

/// Prints median, 99th percentile and maximum, and returns the maximum.
pub fn report_percentiles(what: &str, mut values: Vec<Duration>) -> Duration {
    values.sort();
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    let (rounds, max) = (values.len(), at(100));
    report_value(what, format_args!("{rounds} rounds, p50 {:.1?}, p99 {:.1?}, max {max:.1?}", at(50), at(99)));
    max
}
