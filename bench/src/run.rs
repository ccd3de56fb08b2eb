//! Measures the scenarios on all databases, and the baseline.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::{
    load::{self, Outcome},
    machine::{self, Cores, MeasuredProcesses},
    report::{Samples, Table, quantiles},
    scenario::{Scenario, Size, Worker},
    target::{Database, Environment, Process},
    watch,
    workload::{Client, Workload},
};

/// Measures taskey in every scenario, and compares it with the baseline.
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

    /// Number of rounds per scenario
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    rounds: usize,

    /// Duration of each closed and open loop
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = service_kit::ops::config::time_limit)]
    time: Duration,

    /// Rate of the open loop, as a share of the rate of the closed loop
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    share: f64,

    /// Run only these scenarios and the baseline
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Scenario>,

    /// Directory for the temporary databases
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// `taskey` on a database, and the clients that load it.
struct BenchTarget {
    database: Database,
    measured: MeasuredProcesses,
    /// The memory without load, in MiB.
    idle_memory: f64,
    workers: Vec<Worker>,
    clients: Vec<Client>,
    process: Process,
}

impl BenchTarget {
    async fn start(environment: &Environment, database: Database, size: Size) -> anyhow::Result<Self> {
        let process = environment.taskey(&database, &[])?;
        let measured = database.measured_processes(&process);
        let idle_memory = measured.memory().map_or(0.0, |(now, _)| now);
        let workers = Worker::create_all(environment, process.address("task"), size, true).await?;
        let url = format!("http://{}", process.address("gateway"));
        let workload = Workload::parse(include_str!("../workloads/taskey.toml"), Some(url))?;
        let users = workers.iter().flat_map(|worker| &worker.users);
        let tasks = users.flat_map(|user| user.variables().collect::<Vec<_>>()).collect();
        let clients = Client::create_all(&Arc::new(workload), tasks, size.connections)?;
        Ok(Self { database, measured, idle_memory, workers, clients, process })
    }
}

/// The results of a scenario on a database, of each round.
struct Row {
    names: [&'static str; 3],
    rate: Samples,
    /// The rate as a share of the echo's, in percent.
    share: Samples,
    /// The CPU time of the echo as a share of that of this row, in percent.
    cpu_share: Samples,
    /// CPU time per call, in µs.
    service_cpu: Samples,
    database_cpu: Samples,
    /// The rates and the latencies of the open loops.
    open: Vec<(f64, Histogram<u64>)>,
}

impl Row {
    fn new(scenario: &'static str, protocol: &'static str, database: &'static str) -> Self {
        let [rate, share, cpu_share, service_cpu, database_cpu] = [(); 5].map(|()| Samples::default());
        let names = [scenario, protocol, database];
        Self { names, rate, share, cpu_share, service_cpu, database_cpu, open: Vec::new() }
    }

    /// Adds the result of a closed loop, and of the echo beside it.
    fn add_closed(&mut self, outcome: &Outcome, echo: &Outcome) {
        self.rate.add(outcome.rate);
        self.share.add(100.0 * outcome.rate / echo.rate);
        let cpu = outcome.cpu.total().as_secs_f64().max(f64::MIN_POSITIVE);
        self.cpu_share.add(100.0 * echo.cpu.total().as_secs_f64() / cpu);
        self.service_cpu.add(outcome.cpu.service.as_secs_f64() * 1e6);
        self.database_cpu.add(outcome.cpu.database.as_secs_f64() * 1e6);
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
        let echo = environment.echo()?;
        let mut echo_workers = Worker::create_all(&environment, echo.address("echo"), size, false).await?;
        let mut targets = Vec::new();
        if !self.no_sqlite {
            targets.push(BenchTarget::start(&environment, Database::sqlite(&environment), size).await?);
        }
        if let Some(server) = &self.postgres {
            targets.push(BenchTarget::start(&environment, Database::postgres(server).await?, size).await?);
        }

        let echo_processes = MeasuredProcesses { service: echo.id(), postmaster: None };
        let rows = self.measure(&mut echo_workers, &echo_processes, &mut targets).await?;
        let mut memory = Table::new(&["memory of taskey, MiB", "idle", "at the end", "peak"]);
        for BenchTarget { database, measured, idle_memory, process, .. } in targets {
            let (now, peak) = measured.memory().unwrap_or_default();
            let cells = [idle_memory, now, peak].map(|mebibytes| format!("{mebibytes:.1}"));
            memory.add([database.engine.to_owned()].into_iter().chain(cells));
            drop(process);
            database.remove().await?;
        }
        let mut output = io::stdout();
        let Cores { service, load } = cores;
        let note = if is_pinned { "" } else { "; not pinned, because `taskset` failed" };
        writeln!(output, "taskey and database on core {service}, load on core {load}{note}")?;
        writeln!(output, "{} connections, medians and ranges of {} rounds\n", size.connections, self.rounds)?;
        writeln!(output, "Closed loop: each connection makes the next call after the response\n")?;
        writeln!(output, "{}", closed_table(&rows))?;
        writeln!(
            output,
            "Open loop: latency in ms at a constant rate, from when a call was due (watch: from the response to a write
until a subscriber has the change)\n"
        )?;
        writeln!(output, "{}", open_table(&rows))?;
        writeln!(output, "{memory}")?;
        Ok(())
    }

    /// Measures each scenario and the baseline, round by round.
    async fn measure(
        &self,
        echo: &mut [Worker],
        echo_processes: &MeasuredProcesses,
        targets: &mut [BenchTarget],
    ) -> anyhow::Result<Vec<Row>> {
        let all = Scenario::value_variants().iter().copied();
        let selected: Vec<_> = all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect();
        let mut rows = vec![Row::new(Scenario::Echo.name(), "gRPC", "none")];
        for round in 0..self.rounds {
            let mut next = 1;
            for scenario in selected.iter().filter(|scenario| scenario.is_unary()) {
                // The echo is measured beside each scenario, because the speed of the machine varies.
                let echo_outcome = load::closed_grpc_loop(echo, Scenario::Echo, self.time / 2, echo_processes).await?;
                rows[0].add_closed(&echo_outcome, &echo_outcome);
                for target in &mut *targets {
                    let BenchTarget { workers, clients, measured, .. } = target;
                    let engine = target.database.engine;
                    if round == 0 {
                        rows.push(Row::new(scenario.name(), "gRPC", engine));
                    }
                    let outcome = load::closed_grpc_loop(workers, *scenario, self.time, measured).await?;
                    let rate = (outcome.rate * self.share).max(1.0);
                    rows[next].add_closed(&outcome, &echo_outcome);
                    rows[next].open.push((rate, load::open_loop(workers, *scenario, self.time, rate).await?));
                    next += 1;
                    let Some(call) = clients[0].find(scenario.name()) else { continue };
                    if round == 0 {
                        rows.push(Row::new(scenario.name(), "REST", engine));
                    }
                    let outcome = load::closed_rest_loop(clients, call, self.time, measured).await?;
                    anyhow::ensure!(outcome.failed == 0, "{} requests of {} failed", outcome.failed, scenario.name());
                    rows[next].add_closed(&outcome, &echo_outcome);
                    next += 1;
                }
            }
        }
        if selected.contains(&Scenario::Watch) {
            let (subscribers, rate) = if self.quick { (32, 100.0) } else { (1000, 50.0) };
            for target in targets {
                let mut row = Row::new(Scenario::Watch.name(), "gRPC", target.database.engine);
                row.open.push((rate, watch::measure(&target.workers, subscribers, self.time * 2, rate, || ()).await?));
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// Returns the table of the closed loops.
fn closed_table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "call",
        "protocol",
        "database",
        "rate /s",
        "% of echo",
        "CPU: % of echo",
        "CPU of taskey, µs",
        "CPU of PostgreSQL, µs",
    ]);
    for row in rows.iter().filter(|row| !row.rate.is_empty()) {
        let Row { rate, share, cpu_share, service_cpu, database_cpu, .. } = row;
        let samples = [rate, share, cpu_share, service_cpu, database_cpu];
        table.add(row.names.iter().map(ToString::to_string).chain(samples.map(ToString::to_string)));
    }
    table
}

/// Returns the table of the open loops.
fn open_table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["call", "database", "rate /s", "p50", "p90", "p99", "p99.9", "max"]);
    for row in rows.iter().filter(|row| !row.open.is_empty()) {
        let rate: Samples = row.open.iter().map(|(rate, _)| *rate).collect();
        let [scenario, _, database] = row.names;
        let cells = [scenario.to_owned(), database.to_owned(), format!("{:.0}", rate.median())];
        let latencies: Vec<_> = row.open.iter().map(|(_, latencies)| latencies).collect();
        let latencies = quantiles(&latencies, &[0.5, 0.9, 0.99, 0.999, 1.0]);
        table.add(cells.into_iter().chain(latencies));
    }
    table
}
