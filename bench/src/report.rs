//! Tables in Markdown, and the statistics in their cells.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// A table in Markdown.
pub(crate) struct Table {
    /// The header and the rows.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "| {:-<width$} ", "")?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// The values of several rounds. Displays the median and the range.
#[derive(Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        let index = self.0.partition_point(|other| *other < value);
        self.0.insert(index, value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the median, or zero if there are no values.
    pub(crate) fn median(&self) -> f64 {
        let (len, middle) = (self.0.len(), self.0.len() / 2);
        match self.0.get(middle) {
            None => 0.0,
            Some(upper) if len.is_multiple_of(2) => f64::midpoint(self.0[middle - 1], *upper),
            Some(median) => *median,
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.add(value));
        samples
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(min), Some(max)) = (self.0.first(), self.0.last()) else { return Ok(()) };
        let digits = usize::from(self.median() < 100.0);
        write!(f, "{:.digits$}", self.median())?;
        if self.0.len() > 1 { write!(f, " ({min:.digits$} to {max:.digits$})") } else { Ok(()) }
    }
}

/// Microseconds that are displayed as milliseconds.
pub(crate) struct Millis(pub(crate) u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02}", self.0 / 1000, self.0 % 1000 / 10);
        f.pad(&text)
    }
}

/// Returns quantiles of latencies in milliseconds. Each is the median of the rounds.
pub(crate) fn quantiles(rounds: &[&Histogram<u64>], quantiles: &[f64]) -> Vec<String> {
    let millis = |micros| Duration::from_micros(micros).as_secs_f64() * 1e3;
    let value = |quantile| rounds.iter().map(|round| millis(round.value_at_quantile(quantile))).collect::<Samples>();
    quantiles.iter().map(|quantile| format!("{:.2}", value(*quantile).median())).collect()
}
