//! Measures the scenarios on all databases, and the baseline.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    load,
    machine::{self, Cores, MeasuredProcesses},
    plot,
    report::{Memory, Report, Row},
    scenario::{Scenario, Size, Worker},
    target::{Database, Environment, Process},
    watch,
};

/// Measures task-service in every scenario, and compares it with the baseline.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Run for a few seconds only, to check that the program works; the numbers are meaningless
    #[arg(long)]
    quick: bool,

    /// PostgreSQL server on which databases can be created
    #[arg(long, env = "TASKEY_TEST_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,

    /// Skip SQLite
    #[arg(long)]
    no_sqlite: bool,

    /// Number of rounds per scenario; the best result counts
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,

    /// Duration of each closed and open loop
    #[arg(long, default_value = "1500ms", value_name = "DURATION", value_parser = service_kit::ops::config::time_limit)]
    time: Duration,

    /// Rate of the open loop, as a share of the rate of the closed loop
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    share: f64,

    /// Run only these scenarios and the baseline
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Scenario>,

    /// Directory for the temporary databases and the plot
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// A database with its service, and the workers that load it.
struct BenchTarget {
    database: Database,
    process: Process,
    measured: MeasuredProcesses,
    workers: Vec<Worker>,
}

impl BenchTarget {
    async fn start(environment: &Environment, database: Database, size: Size) -> anyhow::Result<Self> {
        let process = environment.task_service(&database.url)?;
        let measured = database.measured_processes(&process);
        let workers = Worker::create_all(environment, process.address, size, true).await?;
        Ok(Self { database, process, measured, workers })
    }
}

impl Run {
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        if self.quick {
            (self.rounds, self.time) = (1, Duration::from_millis(100));
        }
        let users_per_connection = if self.quick { 1 } else { 8 };
        let size = Size { connections: 32, users_per_connection, tasks_per_user: if self.quick { 25 } else { 60 } };
        fs::create_dir_all(&self.folder)?;
        let cores = Cores::find()?;
        let is_pinned = machine::pin_to_core(cores.load);
        let environment = Environment::new(&self.folder, cores)?;
        let mut echo = Worker::create_all(&environment, environment.echo.address, size, false).await?;
        let mut targets = Vec::new();
        if !self.no_sqlite {
            targets.push(BenchTarget::start(&environment, Database::sqlite(&environment), size).await?);
        }
        if let Some(server) = &self.postgres {
            targets.push(BenchTarget::start(&environment, Database::postgres(server).await?, size).await?);
        }

        let rows = self.measure(&environment, &mut echo, &mut targets).await?;
        let mut memory = Vec::new();
        for BenchTarget { database, process, measured, .. } in targets {
            let engine = database.engine;
            memory.extend(measured.memory().map(|(now, peak)| Memory { engine, now, peak }));
            drop(process);
            database.remove().await?;
        }
        let report = Report { rows, memory, connections: size.connections, rounds: self.rounds };
        let plot_file = self.folder.join("latency.svg");
        fs::write(&plot_file, plot::svg(&report))?;
        let mut output = io::stdout();
        let Cores { service, load } = cores;
        let note = if is_pinned { "" } else { "; not pinned, because `taskset` failed" };
        writeln!(output, "service and database on core {service}, load on core {load}{note}")?;
        write!(output, "{report}")?;
        writeln!(output, "plot of the latencies: {}", plot_file.display())?;
        Ok(())
    }

    /// Measures the baseline and each scenario, round by round.
    async fn measure(
        &self,
        environment: &Environment,
        echo: &mut [Worker],
        targets: &mut [BenchTarget],
    ) -> anyhow::Result<Vec<Row>> {
        let all = Scenario::value_variants().iter().copied();
        let selected: Vec<_> = all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect();
        let mut rows = vec![Row::new(Scenario::Echo, "none")];
        let unary_scenarios: Vec<_> =
            selected.iter().copied().filter(|scenario| !matches!(scenario, Scenario::Echo | Scenario::Watch)).collect();
        for scenario in &unary_scenarios {
            rows.extend(targets.iter().map(|target| Row::new(*scenario, target.database.engine)));
        }
        let echo_processes = MeasuredProcesses { service: environment.echo.id(), postmaster: None };
        for _ in 0..self.rounds {
            self.measure_round(&mut rows[0], echo, &echo_processes).await?;
            let mut row = 1;
            for _ in &unary_scenarios {
                // The echo is measured beside each scenario, because the speed of the machine varies.
                rows[0].add_closed(load::closed_loop(echo, Scenario::Echo, self.time / 3, &echo_processes).await?);
                for target in &mut *targets {
                    self.measure_round(&mut rows[row], &mut target.workers, &target.measured).await?;
                    row += 1;
                }
            }
        }
        if selected.contains(&Scenario::Watch) {
            let (subscribers, rate) = if self.quick { (32, 100.0) } else { (1000, 50.0) };
            for target in targets {
                let mut row = Row::new(Scenario::Watch, target.database.engine);
                row.add_open(rate, watch::measure(&target.workers, subscribers, self.time * 2, rate).await?);
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Runs a closed loop and then an open loop.
    async fn measure_round(
        &self,
        row: &mut Row,
        workers: &mut [Worker],
        processes: &MeasuredProcesses,
    ) -> anyhow::Result<()> {
        let outcome = load::closed_loop(workers, row.scenario, self.time, processes).await?;
        let rate = (outcome.rate * self.share).max(1.0);
        row.add_closed(outcome);
        row.add_open(rate, load::open_loop(workers, row.scenario, self.time, rate).await?);
        Ok(())
    }
}
