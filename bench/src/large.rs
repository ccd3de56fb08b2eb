//! The latency of lists, filters and pages for a user with many tasks, among many users.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use hdrhistogram::Histogram;
use http::HeaderValue;
use prost::Message;
use taskey_proto::task::v1::{ListTasksRequest, ListTasksResponse};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    client::{Call, Connection, encode_frame},
    fill,
    load::histogram,
    machine::Cores,
    report::Millis,
    target::{Database, Environment, retry},
};

/// Measures the lists of one user with many tasks, in a database with many users
#[derive(clap::Args)]
pub(crate) struct Large {
    /// PostgreSQL server on which databases can be created
    #[arg(long, env = "TASKEY_TEST_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,

    /// Skip SQLite
    #[arg(long)]
    no_sqlite: bool,

    /// Number of tasks per user
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    tasks: u32,

    /// Number of users
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    users: u32,

    /// Number of tasks that a user creates before the next user does
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    sitting: u32,

    /// Number of requests per list
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    calls: usize,

    /// Directory for the temporary databases
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// A list request to measure.
struct ListQuery {
    name: &'static str,
    filter: String,
    order_by: &'static str,
    /// The page number, starting at 1. Each page has 50 tasks.
    page: usize,
}

fn list_queries(owner: Uuid, tasks: u32) -> Vec<ListQuery> {
    let unfiltered = |name, order_by, page| ListQuery { name, filter: String::new(), order_by, page };
    // The default list has the id of its owner.
    let default_list = |name, page| ListQuery { name, filter: format!("list_id = {owner}"), order_by: "rank", page };
    let filtered = |name, filter: &str| ListQuery { name, filter: filter.to_owned(), order_by: "", page: 1 };
    vec![
        unfiltered("newest first", "", 1),
        unfiltered("newest first, 10th page", "", 10),
        default_list("list by rank", 1),
        default_list("list by rank, 10th page", 10),
        unfiltered("by title", "title", 1),
        unfiltered("by due time", "due_time", 1),
        unfiltered("by due time, 10th page", "due_time", 10),
        unfiltered("by priority and title", "priority desc, title", 1),
        filtered("label", "labels:week-7"),
        filtered("open, important, overdue", "state = OPEN AND priority >= MEDIUM AND due_time < now()"),
        filtered("word in every task", "plumber"),
        filtered("words in one task", &format!("\"tap {}\"", tasks - 1)),
        filtered("word in no task", "submarine"),
        filtered("1000 words in every task", &vec!["a"; 1000].join(" ")),
        filtered(
            "any of 64 words in no task",
            &(0..64).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" OR "),
        ),
    ]
}

impl Large {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let environment = Environment::new(&self.folder, Cores::find()?)?;
        let mut databases = Vec::new();
        if !self.no_sqlite {
            databases.push(Database::sqlite(&environment));
        }
        if let Some(server) = &self.postgres {
            databases.push(Database::postgres(server).await?);
        }
        let (tasks, users) = (self.tasks, self.users);
        writeln!(io::stdout(), "latency in ms of lists of 50 tasks, for one of {users} users with {tasks} tasks each")?;
        writeln!(
            io::stdout(),
            "{:<26} {:<10} {:>6} {:>8} {:>8} {:>8}",
            "list",
            "engine",
            "found",
            "p50",
            "p90",
            "max"
        )?;
        for database in databases {
            self.measure(&environment, &database).await?;
            database.remove().await?;
        }
        Ok(())
    }

    async fn measure(&self, environment: &Environment, database: &Database) -> anyhow::Result<()> {
        let process = environment.taskey(database, &[])?;
        let owner = fill::owner(0);
        let authorization = environment.authorize(owner, owner)?;
        let connection = Connection::open(process.address("task")).await?;
        retry(async || fetch_page(&connection, &authorization, ListTasksRequest::default()).await).await?;
        let filling = database.task_tables().fill_tasks(self.users, self.tasks, self.sitting).await;
        filling.context("cannot fill the database")?;
        for ListQuery { name, filter, order_by, page } in list_queries(owner, self.tasks) {
            let mut request = ListTasksRequest {
                page_size: 50,
                filter,
                order_by: order_by.to_owned(),
                ..ListTasksRequest::default()
            };
            for _ in 1..page {
                request.page_token = fetch_page(&connection, &authorization, request.clone()).await?.next_page_token;
            }
            let (mut latencies, mut found): (Histogram<u64>, _) = (histogram(), 0);
            for _ in 0..self.calls {
                let start = Instant::now();
                found = fetch_page(&connection, &authorization, request.clone()).await?.tasks.len();
                latencies.record(u64::try_from(start.elapsed().as_micros())?)?;
            }
            write!(io::stdout(), "{name:<26} {:<10} {found:>6}", database.engine)?;
            for quantile in [0.5, 0.9, 1.0] {
                write!(io::stdout(), " {:>8}", Millis(latencies.value_at_quantile(quantile)))?;
            }
            writeln!(io::stdout())?;
        }
        Ok(())
    }
}

async fn fetch_page(
    connection: &Connection,
    authorization: &HeaderValue,
    request: ListTasksRequest,
) -> anyhow::Result<ListTasksResponse> {
    let path = "/taskey.task.v1.TaskService/ListTasks";
    let call = Call { path, authorization: authorization.clone(), body: encode_frame(&request) };
    Ok(ListTasksResponse::decode(connection.call(call).await?)?)
}
