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
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, PgConnection, sqlite::SqliteConnectOptions};
use taskey_proto::task::v1::{ListTasksRequest, ListTasksResponse};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    client::{Call, Connection, encode_frame},
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
        let process = environment.taskey(database)?;
        let (owner, authorization) = environment.new_user()?;
        let connection = Connection::open(process.address("task")).await?;
        retry(async || fetch_page(&connection, &authorization, ListTasksRequest::default()).await).await?;
        self.fill(&database.task_url(), owner).await.context("cannot fill the database")?;
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

    /// Inserts the tasks into the tables, because creating them through the service would take hours.
    async fn fill(&self, url: &str, owner: Uuid) -> anyhow::Result<()> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let options = SqliteConnectOptions::new().filename(path).pragma("cache_size", "-400000");
            let mut connection = options.pragma("synchronous", "off").connect().await?;
            let id = |number: &str| format!("unhex(printf('018bcfe5680070008000%012x', {number}))");
            let fill = self.fill_sql(&format!("x'{}'", owner.simple()), id);
            // SQLite has the long texts in a table of their own.
            let split = format!(
                "alter table tasks add column notes text; alter table tasks add column search text; {fill}
                insert into task_texts (owner_id, id, notes, search) select owner_id, id, notes, search from tasks;
                alter table tasks drop column notes; alter table tasks drop column search;"
            );
            connection.execute(AssertSqlSafe(split)).await?;
            return Ok(connection.close().await?);
        }
        let mut connection = PgConnection::connect(url).await?;
        let id = |number: &str| format!("('018bcfe5-6800-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid");
        let fill = format!("set search_path to task; {}", self.fill_sql(&format!("'{owner}'::uuid"), id));
        connection.execute(AssertSqlSafe(fill)).await?;
        connection.execute("vacuum analyze").await?;
        Ok(connection.close().await?)
    }

    /// Returns SQL that inserts the tasks of all users, who take turns. The first user is the measured one.
    fn fill_sql(&self, owner: &str, id: impl Fn(&str) -> String) -> String {
        let (users, tasks, sitting) = (self.users, self.tasks, self.sitting);
        let (number, other) = (id("n"), id("1000000000 + whose"));
        format!(
            "with recursive numbers (n) as (select cast(0 as bigint) union all select n + 1 from numbers where n < {users} * {tasks} - 1)
            insert into tasks (owner_id, id, list_id, priority, due_time, due_at, time_zone, create_time, update_time,
                complete_time, revision, change, rank, title, labels, notes, search)
            select owner, {number}, owner, k % 4, due, due, '', n, n, case when k % 5 = 0 then n end, 1, k + 1,
                '6' || substr(cast(10000000000000 + k as text), 2) || '0005', title, '\nhome\nweek-' || (k % 52) || '\n',
                notes, lower(title || '\n' || notes)
            from (
                select n, k, case when whose = 0 then {owner} else {other} end as owner,
                    case when k % 3 = 0 then 1790000000000000 + k * 1000000 end as due,
                    'Ring the plumber about tap ' || k as title,
                    'The one in the kitchen drips again. Ask what a new one costs.' as notes
                from (
                    select n, n / {sitting} % {users} as whose,
                        n / ({sitting} * {users}) * {sitting} + n % {sitting} as k
                    from numbers
                ) numbered
            ) made;
            insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists)
            select owner_id, max(change), 0, count(*), 1 from tasks group by owner_id;
            insert into task_lists (owner_id, id, title, create_time, update_time, revision)
            select owner_id, owner_id, 'Tasks', 0, 0, 1 from owners;"
        )
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
