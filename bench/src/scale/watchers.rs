//! Memory and delays, with many watches.

use std::time::Duration;

use super::{Scale, memory};
use crate::{
    machine::Cores,
    report::{Table, quantiles},
    scenario::{Size, Worker},
    target::{Database, Environment},
    watch,
};

/// Users per connection, each with up to four watches.
const USERS_PER_CONNECTION: u32 = 25;
const WATCHES_PER_CONNECTION: u32 = 100;

/// Writes per second.
const RATE: f64 = 50.0;

impl Scale {
    pub(super) async fn measure_watchers(&self) -> anyhow::Result<Table> {
        let mut table =
            Table::new(&["watches", "memory, MiB", "KiB per watch", "delay p50, ms", "delay p99, ms", "delay max, ms"]);
        for watches in self.sizes([1000, 5000]).map(|watches| watches.max(USERS_PER_CONNECTION)) {
            let environment = Environment::new(&self.folder, Cores::find()?)?;
            let process = environment.taskey(&Database::sqlite(&environment), &[])?;
            let connections = watches.div_ceil(WATCHES_PER_CONNECTION);
            // Several tasks, because consecutive changes of one task may arrive as one.
            let size = Size {
                connections: connections as usize,
                users_per_connection: USERS_PER_CONNECTION as usize,
                tasks_per_user: 60,
            };
            let workers = Worker::create_all(&environment, process.address("task"), size, true).await?;
            let (before, mut with_watches) = (memory(&process), 0.0);
            let time = self.time.max(Duration::from_secs(2));
            let latencies =
                watch::measure(&workers, watches as usize, time, RATE, || with_watches = memory(&process)).await?;
            let each = (with_watches - before) * 1024.0 / f64::from(watches);
            let cells = [watches.to_string(), format!("{with_watches:.1}"), format!("{each:.1}")];
            table.add(cells.into_iter().chain(quantiles(&[&latencies], &[0.5, 0.99, 1.0])));
        }
        Ok(table)
    }
}
