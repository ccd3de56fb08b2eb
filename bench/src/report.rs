//! The results, as a table.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

use crate::{load::Outcome, scenario::Scenario};

/// The results of a scenario on an engine: the best of several rounds.
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) engine: &'static str,
    /// The closed loop; `None` for a watch.
    pub(crate) closed: Option<Outcome>,
    /// The rate and the latencies of the open loop.
    pub(crate) open: Option<(f64, Histogram<u64>)>,
}

impl Row {
    pub(crate) fn new(scenario: Scenario, engine: &'static str) -> Self {
        Self { scenario, engine, closed: None, open: None }
    }

    /// Adds the result of a closed loop. The fastest is kept.
    pub(crate) fn add_closed(&mut self, outcome: Outcome) {
        if self.closed.as_ref().is_none_or(|best| best.rate < outcome.rate) {
            self.closed = Some(outcome);
        }
    }

    /// Adds the latencies of an open loop. Those with the lowest p99 are kept.
    pub(crate) fn add_open(&mut self, rate: f64, latencies: Histogram<u64>) {
        let p99 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99);
        if self.open.as_ref().is_none_or(|(_, best)| p99(&latencies) < p99(best)) {
            self.open = Some((rate, latencies));
        }
    }
}

/// The memory of a service at the end and at its peak, in MiB.
pub(crate) struct Memory {
    pub(crate) engine: &'static str,
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

/// The results of all scenarios.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) connections: usize,
    pub(crate) rounds: usize,
}

/// Microseconds that are displayed as milliseconds.
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
            "p50 to max, in ms: open loop at a constant rate, from when a call was due (watch: from the response to"
        )?;
        writeln!(f, "a write until a subscriber has the change), of the round with the lowest p99")?;
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
        for Memory { engine, now, peak } in memory {
            writeln!(f, "memory of task-service on {engine}: {now:.1} MiB at the end, {peak:.1} MiB at the peak")?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
