//! What was found, as a table.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

use crate::{load::Outcome, scenario::Scenario};

/// A scenario on an engine: the best of several rounds.
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) engine: &'static str,
    /// As fast as possible; a watch has none.
    pub(crate) closed: Option<Outcome>,
    /// How often it was asked, and how long it took, at an even rate.
    pub(crate) open: Option<(f64, Histogram<u64>)>,
}

impl Row {
    pub(crate) fn new(scenario: Scenario, engine: &'static str) -> Self {
        Self { scenario, engine, closed: None, open: None }
    }

    /// Keeps the faster of two.
    pub(crate) fn add_closed(&mut self, outcome: Outcome) {
        if self.closed.as_ref().is_none_or(|known| known.rate < outcome.rate) {
            self.closed = Some(outcome);
        }
    }

    /// Keeps the one whose slow calls are the less slow.
    pub(crate) fn add_open(&mut self, rate: f64, latencies: Histogram<u64>) {
        let slow = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99);
        if self.open.as_ref().is_none_or(|(_, known)| slow(&latencies) < slow(known)) {
            self.open = Some((rate, latencies));
        }
    }
}

/// The memory of a service at the end, in MiB.
pub(crate) struct Memory {
    pub(crate) engine: &'static str,
    pub(crate) now: f64,
    pub(crate) most: f64,
}

/// All that was found.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) connections: usize,
    pub(crate) rounds: usize,
}

/// Microseconds, as milliseconds.
pub(crate) struct Millis(pub(crate) u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02}", self.0 / 1000, self.0 % 1000 / 10);
        f.pad(&text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, memory, connections, rounds } = self;
        let echo = rows.iter().find(|row| row.scenario == Scenario::Echo).and_then(|row| row.closed.as_ref());
        writeln!(f, "rate, % of echo, CPU: closed loop, {connections} connections, the best of {rounds} rounds")?;
        writeln!(
            f,
            "p50 to max, in ms: open loop at an even rate, from the moment a call was due (watch: from the answer"
        )?;
        writeln!(f, "to a write until a subscriber has it), of the round with the lowest p99")?;
        write!(
            f,
            "{:<12} {:<10} {:>8} {:>7} {:>8} {:>7} ",
            "scenario", "engine", "rate /s", "% echo", "CPU µs", "% echo"
        )?;
        writeln!(f, "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8}", "at /s", "p50", "p90", "p99", "p99.9", "max")?;
        for row in rows {
            write!(f, "{:<12} {:<10} ", row.scenario.name(), row.engine)?;
            match &row.closed {
                Some(Outcome { rate, cpu }) => {
                    let share = echo.map_or(100.0, |echo| 100.0 * rate / echo.rate);
                    let cpu_share = echo.map_or(100.0, |echo| 100.0 * micros(echo.cpu) / micros(*cpu));
                    write!(f, "{rate:>8.0} {share:>7.1} {:>8.0} {cpu_share:>7.1} ", micros(*cpu))?;
                }
                None => write!(f, "{:>8} {:>7} {:>8} {:>7} ", "", "", "", "")?,
            }
            if let Some((rate, latencies)) = &row.open {
                write!(f, "{rate:>8.0}")?;
                for quantile in [0.5, 0.9, 0.99, 0.999] {
                    write!(f, " {:>8}", Millis(latencies.value_at_quantile(quantile)))?;
                }
                write!(f, " {:>8}", Millis(latencies.max()))?;
            }
            writeln!(f)?;
        }
        for Memory { engine, now, most } in memory {
            writeln!(f, "memory of task-service on {engine}: {now:.1} MiB at the end, {most:.1} MiB at the most")?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
