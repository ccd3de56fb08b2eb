//! One user with many tasks, among many users: how long lists, filters and pages take.

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
    client::{Call, Connection, framed},
    load::histogram,
    machine::Cores,
    report::Millis,
    target::{Database, Ground, patiently},
};

/// Asks for the lists of one user with many tasks, whose database holds those of many
#[derive(clap::Args)]
pub(crate) struct Large {
    /// A PostgreSQL server on which databases may be made
    #[arg(long, env = "TASKEY_TEST_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,

    /// Leave SQLite out
    #[arg(long)]
    no_sqlite: bool,

    /// How many tasks each user has
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    tasks: u32,

    /// How many users there are
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    users: u32,

    /// How many tasks a user makes before another one does
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    sitting: u32,

    /// How often each list is asked for
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    calls: usize,

    /// Where the databases lie while they are needed
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

/// A list that is asked for.
struct Asked {
    name: &'static str,
    filter: String,
    order_by: &'static str,
    /// Which of the pages, each of 50 tasks.
    page: usize,
}

fn asked(owner: Uuid, tasks: u32) -> Vec<Asked> {
    let all = |name, order_by, page| Asked { name, filter: String::new(), order_by, page };
    // The default list, which has the id of its owner.
    let listed = |name, page| Asked { name, filter: format!("list_id = {owner}"), order_by: "rank", page };
    let some = |name, filter: &str| Asked { name, filter: filter.to_owned(), order_by: "", page: 1 };
    vec![
        all("the newest", "", 1),
        all("the newest, 10th page", "", 10),
        listed("a list by rank", 1),
        listed("a list by rank, 10th page", 10),
        all("by title", "title", 1),
        all("by due time", "due_time", 1),
        all("by due time, 10th page", "due_time", 10),
        all("by priority and title", "priority desc, title", 1),
        some("a label", "labels:week-7"),
        some("open, important, overdue", "state = OPEN AND priority >= MEDIUM AND due_time < now()"),
        some("a word in all", "plumber"),
        some("words in one", &format!("\"tap {}\"", tasks - 1)),
        some("a word in none", "submarine"),
        some("1000 words, all in all", &vec!["a"; 1000].join(" ")),
        some("64 words, none in any", &(0..64).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" OR ")),
    ]
}

impl Large {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let ground = Ground::new(&self.folder, Cores::find()?)?;
        let mut databases = Vec::new();
        if !self.no_sqlite {
            databases.push(Database::sqlite(&ground));
        }
        if let Some(server) = &self.postgres {
            databases.push(Database::postgres(server).await?);
        }
        let (tasks, users) = (self.tasks, self.users);
        writeln!(io::stdout(), "lists of 50 tasks of one among {users} users with {tasks} tasks each, in ms")?;
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
            self.ask(&ground, &database).await?;
            database.remove().await?;
        }
        Ok(())
    }

    async fn ask(&self, ground: &Ground, database: &Database) -> anyhow::Result<()> {
        let process = ground.task_service(&database.url)?;
        let (owner, authorization) = ground.user()?;
        let connection = Connection::open(process.address).await?;
        patiently(async || page(&connection, &authorization, ListTasksRequest::default()).await).await?;
        self.fill(&database.url, owner).await.context("cannot fill the database")?;
        for Asked { name, filter, order_by, page: number } in asked(owner, self.tasks) {
            let mut request = ListTasksRequest {
                page_size: 50,
                filter,
                order_by: order_by.to_owned(),
                ..ListTasksRequest::default()
            };
            for _ in 1..number {
                request.page_token = page(&connection, &authorization, request.clone()).await?.next_page_token;
            }
            let (mut latencies, mut found): (Histogram<u64>, _) = (histogram(), 0);
            for _ in 0..self.calls {
                let begun = Instant::now();
                found = page(&connection, &authorization, request.clone()).await?.tasks.len();
                latencies.record(u64::try_from(begun.elapsed().as_micros())?)?;
            }
            write!(io::stdout(), "{name:<26} {:<10} {found:>6}", database.engine)?;
            for quantile in [0.5, 0.9, 1.0] {
                write!(io::stdout(), " {:>8}", Millis(latencies.value_at_quantile(quantile)))?;
            }
            writeln!(io::stdout())?;
        }
        Ok(())
    }

    /// Puts the tasks into the tables: through the service it would take hours.
    async fn fill(&self, url: &str, owner: Uuid) -> anyhow::Result<()> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let options = SqliteConnectOptions::new().filename(path).pragma("cache_size", "-400000");
            let mut connection = options.pragma("synchronous", "off").connect().await?;
            let id = |number: &str| format!("unhex(printf('018bcfe5680070008000%012x', {number}))");
            connection.execute(AssertSqlSafe(self.fill_sql(&format!("x'{}'", owner.simple()), id))).await?;
            return Ok(connection.close().await?);
        }
        let mut connection = PgConnection::connect(url).await?;
        let id = |number: &str| format!("('018bcfe5-6800-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid");
        let fill = format!("set search_path to task; {}", self.fill_sql(&format!("'{owner}'::uuid"), id));
        connection.execute(AssertSqlSafe(fill)).await?;
        connection.execute("vacuum analyze").await?;
        Ok(connection.close().await?)
    }

    /// The tasks of all users, who make theirs by turns. The first user is the one who asks.
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

async fn page(
    connection: &Connection,
    authorization: &HeaderValue,
    request: ListTasksRequest,
) -> anyhow::Result<ListTasksResponse> {
    let path = "/taskey.task.v1.TaskService/ListTasks";
    let call = Call { path, authorization: authorization.clone(), body: framed(&request) };
    Ok(ListTasksResponse::decode(connection.call(call).await?)?)
}
