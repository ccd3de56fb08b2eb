//! Measures the same calls over REST on several running servers.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use service_kit::random;

use crate::{
    load::{self, Outcome},
    machine::{self, Cores, MeasuredProcesses},
    report::{Samples, Table, quantiles},
    workload::{Client, Workload},
};

/// Measures the same calls over REST on several running servers
#[derive(clap::Args)]
pub(crate) struct Compare {
    /// Descriptions of the servers and their calls, each with the URL of the server if it differs from the one in the
    /// file. The others are compared with the first server
    #[arg(required = true, value_name = "FILE[=URL]")]
    servers: Vec<Server>,

    /// Number of rounds per call
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,

    /// Duration of each round
    #[arg(long, default_value = "4s", value_name = "DURATION", value_parser = service_kit::ops::config::time_limit)]
    time: Duration,

    /// Number of users to create
    #[arg(long, default_value_t = 32, value_name = "COUNT")]
    users: usize,

    /// Number of tasks per user
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    tasks: usize,

    /// Number of connections, each with one request at a time
    #[arg(long, default_value_t = 32, value_name = "COUNT")]
    connections: usize,

    /// Measure only these calls
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
}

/// A description, and the URL of its server.
#[derive(Clone)]
struct Server {
    file: PathBuf,
    url: Option<String>,
}

impl FromStr for Server {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (file, url) = text.split_once('=').map_or((text, None), |(file, url)| (file, Some(url.to_owned())));
        Ok(Self { file: file.into(), url })
    }
}

impl Server {
    fn workload(self) -> anyhow::Result<Workload> {
        let name = self.file.display().to_string();
        let text = fs::read_to_string(&self.file).with_context(|| format!("cannot read {name}"))?;
        Workload::parse(&text, self.url).with_context(|| name)
    }
}

/// A server and its clients.
struct Target {
    workload: Arc<Workload>,
    clients: Vec<Client>,
}

impl Compare {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        machine::pin_to_core(Cores::find()?.load);
        let mut targets = Vec::new();
        for server in &self.servers {
            let workload = Arc::new(server.clone().workload()?);
            let run = random::id().simple().to_string();
            let tasks = workload.seed(self.users, self.tasks, &run).await?;
            let clients = Client::create_all(&workload, tasks, self.connections)?;
            targets.push(Target { workload, clients });
        }
        let mut table = Table::new(&["call", "server", "rate /s", "p50, ms", "p99, ms", "errors", "first ÷ this"]);
        let calls = targets[0].workload.calls.iter().map(|call| call.name.clone());
        for call in calls.filter(|call| self.only.is_empty() || self.only.contains(call)).collect::<Vec<_>>() {
            let mut rounds: Vec<Vec<Outcome>> = targets.iter().map(|_| Vec::new()).collect();
            for _ in 0..self.rounds {
                for (target, rounds) in targets.iter_mut().zip(&mut rounds) {
                    rounds.push(self.measure(target, &call).await?);
                }
            }
            let rates = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.rate).collect::<Samples>();
            let first = rates(&rounds[0]).median();
            for (Target { workload, .. }, outcomes) in targets.iter().zip(&rounds) {
                let rate = rates(outcomes);
                let failed: u32 = outcomes.iter().map(|outcome| outcome.failed).sum();
                let latencies: Vec<_> = outcomes.iter().map(|outcome| &outcome.latencies).collect();
                let latencies = quantiles(&latencies, &[0.5, 0.99]);
                let cells = [call.clone(), workload.name.clone(), rate.to_string()].into_iter().chain(latencies);
                table.add(cells.chain([failed.to_string(), format!("{:.1}", first / rate.median())]));
            }
        }
        let (connections, rounds) = (self.connections, self.rounds);
        writeln!(io::stdout(), "{connections} connections, medians and ranges of {rounds} rounds\n\n{table}")?;
        Ok(())
    }

    async fn measure(&self, target: &mut Target, call: &str) -> anyhow::Result<Outcome> {
        let name = &target.workload.name;
        let call = target.clients[0].find(call).with_context(|| format!("{name} has no call {call}"))?;
        load::closed_rest_loop(&mut target.clients, call, self.time, &MeasuredProcesses::default()).await
    }
}
