//! The cost of calls against the size of the data.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    machine::{self, Cores, MeasuredProcesses},
    target::{Database, Environment, Process},
};

mod accounts;
mod revocations;
mod tasks;
mod watchers;

/// Measures the cost of calls against the size of the data, on SQLite and PostgreSQL
#[derive(clap::Args)]
pub(crate) struct Scale {
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Part>,

    /// Also measure a million tasks and accounts, four million revocations, and 5,000 watches; takes many minutes
    #[arg(long)]
    large: bool,

    /// PostgreSQL server on which databases can be created
    #[arg(long, env = "TASKEY_TEST_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,

    /// Divide all sizes by this, to check that the program works
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    divide: u32,

    /// Duration of each closed loop
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = service_kit::ops::config::time_limit)]
    time: Duration,

    /// Directory for the temporary databases
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls, with many tasks and owners.
    Tasks,
    /// Sign-ups and logins, with many accounts.
    Accounts,
    /// The start and the feed, with many revoked sessions.
    Revocations,
    /// Memory and delays, with many watches.
    Watchers,
}

impl Scale {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        machine::pin_to_core(Cores::find()?.load);
        for part in Part::value_variants() {
            if !self.only.is_empty() && !self.only.contains(part) {
                continue;
            }
            let table = match part {
                Part::Tasks => self.measure_tasks().await?,
                Part::Accounts => self.measure_accounts().await?,
                Part::Revocations => self.measure_revocations().await?,
                Part::Watchers => self.measure_watchers().await?,
            };
            writeln!(io::stdout(), "{table}")?;
        }
        Ok(())
    }

    /// Returns the sizes to measure. The last one takes long.
    fn sizes<const N: usize>(&self, sizes: [u32; N]) -> impl Iterator<Item = u32> + use<N> {
        let (count, divide) = (if self.large { N } else { N - 1 }, self.divide);
        sizes.into_iter().take(count).map(move |size| size / divide)
    }

    /// Creates an environment with an empty database for each engine, one after the other.
    async fn databases(&self) -> anyhow::Result<Vec<(Environment, Database)>> {
        let mut databases = Vec::new();
        let environment = || Environment::new(&self.folder, Cores::find()?);
        let sqlite = environment()?;
        let database = Database::sqlite(&sqlite);
        databases.push((sqlite, database));
        if let Some(server) = &self.postgres {
            databases.push((environment()?, Database::postgres(server).await?));
        }
        Ok(databases)
    }
}

/// Returns the memory of a process in MiB.
fn memory(process: &Process) -> f64 {
    let measured = MeasuredProcesses { service: process.id(), postmaster: None };
    measured.memory().map_or(0.0, |(now, _)| now)
}
