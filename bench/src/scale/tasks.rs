//! Calls, with many tasks and owners.

use anyhow::Context;
use taskey_proto::task::v1::ListTasksRequest;

use super::{Scale, memory};
use crate::{
    client::{Call, Connection, encode_frame},
    fill,
    load::{self, Outcome},
    report::Table,
    scenario::{Scenario, User, Worker},
    target::{Environment, Process, retry},
};

/// The number of connections.
const CONNECTIONS: u32 = 32;

impl Scale {
    pub(super) async fn measure_tasks(&self) -> anyhow::Result<Table> {
        let mut table = Table::new(&[
            "tasks",
            "owners",
            "database",
            "get, CPU µs",
            "list(20)",
            "filter by label",
            "create",
            "memory, MiB",
        ]);
        for tasks in self.sizes([1000, 100_000, 1_000_000]) {
            for owners in [10, 1000, 100_000] {
                // An account may have 20,000 rows.
                if !(1..=20_000).contains(&(tasks / owners)) {
                    continue;
                }
                for (environment, database) in self.databases().await? {
                    // Starts once to create the tables.
                    drop(environment.taskey(&database, &[])?);
                    let filling = database.task_tables().fill_tasks(owners, tasks / owners, 1).await;
                    filling.context("cannot fill the database")?;
                    let process = environment.taskey(&database, &[])?;
                    let mut workers = workers(&environment, &process, owners, tasks / owners).await?;
                    let measured = database.measured_processes(&process);
                    let mut cells = vec![tasks.to_string(), owners.to_string(), database.engine.to_owned()];
                    for scenario in [Some(Scenario::Get), Some(Scenario::List20), None, Some(Scenario::Create)] {
                        let call = async |worker: &mut Worker| {
                            let call = match scenario {
                                Some(scenario) => worker.next(scenario),
                                None => filter(worker),
                            };
                            worker.connection.call(call).await.map(|_| true)
                        };
                        let outcome = load::closed_loop(&mut workers, call, self.time, &measured).await?;
                        cells.push(micros(&outcome));
                    }
                    cells.push(format!("{:.1}", memory(&process)));
                    table.add(cells);
                    drop(process);
                    database.remove().await?;
                }
            }
        }
        Ok(table)
    }
}

/// Opens connections for up to 256 of the owners.
async fn workers(
    environment: &Environment,
    process: &Process,
    owners: u32,
    tasks_per_owner: u32,
) -> anyhow::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for number in 0..CONNECTIONS.min(owners) {
        let connection = Connection::open(process.address("task")).await?;
        let mut users = Vec::new();
        // Spread over all owners.
        for owner in (number..owners).step_by(CONNECTIONS.max(owners / 8) as usize) {
            let authorization = environment.authorize(fill::owner(owner), fill::owner(owner))?;
            let tasks = (0..tasks_per_owner.min(1000)).map(|k| fill::id(k * owners + owner).to_string()).collect();
            users.push(User { authorization, tasks });
        }
        let mut worker = Worker::new(connection, users);
        let call = worker.next(Scenario::Get);
        retry(async || worker.connection.call(call.clone()).await).await?;
        workers.push(worker);
    }
    Ok(workers)
}

/// Returns a call that lists the tasks with a label, which one in 52 has.
fn filter(worker: &Worker) -> Call {
    let request = ListTasksRequest { page_size: 20, filter: "labels:week-7".to_owned(), ..ListTasksRequest::default() };
    let authorization = worker.users[0].authorization.clone();
    Call { path: "/taskey.task.v1.TaskService/ListTasks", authorization, body: encode_frame(&request) }
}

fn micros(outcome: &Outcome) -> String {
    format!("{:.0}", outcome.cpu.total().as_secs_f64() * 1e6)
}
