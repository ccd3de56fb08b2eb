//! All scenarios, on all databases, beside the yardstick.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    load,
    machine::{self, Cores, Counted},
    plot,
    report::{Memory, Report, Row},
    scenario::{Scenario, Size, Worker},
    target::{Database, Ground, Process},
    watch,
};

/// Loads task-service, and says what it bears.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// A few seconds, to see that it works; the numbers mean nothing
    #[arg(long)]
    quick: bool,

    /// A PostgreSQL server on which databases may be made
    #[arg(long, env = "TASKEY_TEST_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,

    /// Leave SQLite out
    #[arg(long)]
    no_sqlite: bool,

    /// How often each scenario has its turn; the best counts
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,

    /// How long a turn takes in either loop
    #[arg(long, default_value = "1500ms", value_name = "DURATION", value_parser = service_kit::ops::config::time_limit)]
    time: Duration,

    /// At how much of the rate that it bears a scenario is asked evenly
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    share: f64,

    /// These scenarios alone, beside the yardstick
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Scenario>,

    /// Where the databases lie while they are needed, and the picture afterwards
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// A database with its service, and those who load it.
struct Side {
    database: Database,
    process: Process,
    counted: Counted,
    workers: Vec<Worker>,
}

impl Side {
    async fn start(ground: &Ground, database: Database, size: Size) -> anyhow::Result<Self> {
        let process = ground.task_service(&database.url)?;
        let counted = database.counted(&process);
        let workers = Worker::several(ground, process.address, size, true).await?;
        Ok(Self { database, process, counted, workers })
    }
}

impl Run {
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        if self.quick {
            (self.rounds, self.time) = (1, Duration::from_millis(100));
        }
        let users_each = if self.quick { 1 } else { 8 };
        let size = Size { connections: 32, users_each, tasks: if self.quick { 25 } else { 60 } };
        fs::create_dir_all(&self.folder)?;
        let cores = Cores::find()?;
        let pinned = machine::stay_on(cores.load);
        let ground = Ground::new(&self.folder, cores)?;
        let mut echo = Worker::several(&ground, ground.echo.address, size, false).await?;
        let mut sides = Vec::new();
        if !self.no_sqlite {
            sides.push(Side::start(&ground, Database::sqlite(&ground), size).await?);
        }
        if let Some(server) = &self.postgres {
            sides.push(Side::start(&ground, Database::postgres(server).await?, size).await?);
        }

        let rows = self.measure(&ground, &mut echo, &mut sides).await?;
        let mut memory = Vec::new();
        for Side { database, process, counted, .. } in sides {
            let engine = database.engine;
            memory.extend(counted.memory().map(|(now, most)| Memory { engine, now, most }));
            drop(process);
            database.remove().await?;
        }
        let report = Report { rows, memory, connections: size.connections, rounds: self.rounds };
        let picture = self.folder.join("latency.svg");
        fs::write(&picture, plot::svg(&report))?;
        let mut output = io::stdout();
        let Cores { service, load } = cores;
        let how = if pinned { "" } else { "; not held to, for want of `taskset`" };
        writeln!(output, "service and database on core {service}, load on core {load}{how}")?;
        write!(output, "{report}")?;
        writeln!(output, "the latencies as a picture: {}", picture.display())?;
        Ok(())
    }

    /// Round by round each scenario has its turn, after the yardstick.
    async fn measure(&self, ground: &Ground, echo: &mut [Worker], sides: &mut [Side]) -> anyhow::Result<Vec<Row>> {
        let all = Scenario::value_variants().iter().copied();
        let chosen: Vec<_> = all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect();
        let mut rows = vec![Row::new(Scenario::Echo, "none")];
        let calls: Vec<_> =
            chosen.iter().copied().filter(|scenario| !matches!(scenario, Scenario::Echo | Scenario::Watch)).collect();
        for scenario in &calls {
            rows.extend(sides.iter().map(|side| Row::new(*scenario, side.database.engine)));
        }
        let echo_counted = Counted { service: ground.echo.id(), postmaster: None };
        for _ in 0..self.rounds {
            self.turn(&mut rows[0], echo, &echo_counted).await?;
            let mut row = 1;
            for _ in &calls {
                rows[0].add_closed(load::closed(echo, Scenario::Echo, self.time / 3, &echo_counted).await?);
                for side in &mut *sides {
                    self.turn(&mut rows[row], &mut side.workers, &side.counted).await?;
                    row += 1;
                }
            }
        }
        if chosen.contains(&Scenario::Watch) {
            let (subscribers, rate) = if self.quick { (32, 100.0) } else { (1000, 50.0) };
            for side in sides {
                let mut row = Row::new(Scenario::Watch, side.database.engine);
                row.add_open(rate, watch::watch(&side.workers, subscribers, self.time * 2, rate).await?);
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// As fast as possible, and then evenly.
    async fn turn(&self, row: &mut Row, workers: &mut [Worker], counted: &Counted) -> anyhow::Result<()> {
        let outcome = load::closed(workers, row.scenario, self.time, counted).await?;
        let rate = (outcome.rate * self.share).max(1.0);
        row.add_closed(outcome);
        row.add_open(rate, load::open(workers, row.scenario, self.time, rate).await?);
        Ok(())
    }
}
