//! What was measured, said on standard error past the capture of the test harness.

use std::{
    env,
    io::{self, Write},
    time::Duration,
};

/// What a machine that is busy with other tests may add to any promise.
pub const BUSY: Duration = Duration::from_millis(1500);

/// How many rounds a test takes. `make test-faults` asks for more.
pub fn rounds(default: usize) -> usize {
    env::var("TASKEY_TEST_ROUNDS").map_or(default, |rounds| rounds.parse().expect("TASKEY_TEST_ROUNDS is a number"))
}

pub fn measured(what: &str, value: impl std::fmt::Display) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    _ = writeln!(io::stderr(), "measured: {name}: {what}: {value}");
}

/// The median.
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// Returns the time that so many of a hundred took at most.
pub fn percentile(percent: usize, mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[(values.len() * percent).div_ceil(100).max(1) - 1]
}

/// Says median, 99th percentile and maximum, and gives the maximum.
pub fn percentiles(what: &str, mut values: Vec<Duration>) -> Duration {
    values.sort();
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    let (rounds, max) = (values.len(), at(100));
    measured(what, format_args!("{rounds} rounds, p50 {:.1?}, p99 {:.1?}, max {max:.1?}", at(50), at(99)));
    max
}
