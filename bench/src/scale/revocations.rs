//! The start and the feed, with many revoked sessions.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Scale, memory};
use crate::{
    client::{Call, Connection, encode_frame},
    fill::{self, Tables},
    report::{Millis, Table},
    target::{Environment, Process, retry},
};

/// Number of sessions that are revoked while the services run.
const LATER: u32 = 100_000;

/// The maximum time until they are refused.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Scale {
    pub(super) async fn measure_revocations(&self) -> anyhow::Result<Table> {
        let later = LATER / self.divide;
        let catching_up = format!("{later} more, ms");
        let mut table = Table::new(&[
            "revoked sessions",
            "database",
            "start, ms",
            "snapshot, ms",
            &catching_up,
            "auth-service, MiB",
            "task-service, MiB",
            "bytes per session",
        ]);
        for (environment, database) in self.databases().await? {
            let (auth_tables, mut count) = (database.auth_tables(), 0);
            // Starts once to create the tables.
            drop(environment.auth_service(&auth_tables)?);
            let mut empty = 0.0;
            for size in [0, 1_000_000, 4_000_000].into_iter().take(if self.large { 3 } else { 2 }) {
                let size = size / self.divide;
                revoke(&auth_tables, count, size - count).await.context("cannot insert sessions")?;
                let started = Instant::now();
                let auth = environment.auth_service(&auth_tables)?;
                let start = started.elapsed();
                let started = Instant::now();
                let task = environment.task_service(&auth)?;
                let connection = Connection::open(task.address("task")).await?;
                retry(async || list_tasks(&environment, &connection, Uuid::max()).await).await?;
                let snapshot = started.elapsed();
                let task_memory = memory(&task);
                if size == 0 {
                    empty = task_memory;
                }
                let auth_memory = memory(&auth);
                revoke(&auth_tables, size, later).await.context("cannot insert sessions")?;
                let catching_up = await_refusal(&environment, &connection, fill::id(size + later - 1)).await?;
                count = size + later;
                let per_session = (task_memory - empty) * 1024.0 * 1024.0 / f64::from(size.max(1));
                let mut cells = vec![size.to_string(), database.engine.to_owned()];
                cells.extend([start, snapshot, catching_up].map(|time| millis(time).to_string()));
                cells.extend([auth_memory, task_memory].map(|mebibytes| format!("{mebibytes:.1}")));
                cells.push(format!("{per_session:.0}"));
                table.add(cells);
                stop([task, auth]);
            }
            database.remove().await?;
        }
        Ok(table)
    }
}

/// Stops programs in this order.
fn stop(processes: [Process; 2]) {
    processes.into_iter().for_each(drop);
}

fn millis(time: Duration) -> Millis {
    Millis(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// Inserts sessions that were revoked within the last minutes, as the entries after `last` of the feed.
async fn revoke(tables: &Tables, last: u32, count: u32) -> anyhow::Result<()> {
    let id = tables.id_sql("n");
    let end = last + count;
    let now = service_kit::clock::Clock::system().now().as_micros();
    tables
        .execute(format!(
            "insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
                previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation)
            with recursive numbers (n) as (
                select cast({last} as bigint) where {count} > 0
                union all select n + 1 from numbers where n < {end} - 1)
            select {id}, {id}, '', '', '', 0, 0, 0, 0, 9000000000000000, 9000000000000000, {now} - {end} + n, false,
                n + 1
            from numbers;
            update feed set last_revocation = {end}"
        ))
        .await
}

/// Lists the tasks of an owner without tasks, with the token of a session.
async fn list_tasks(environment: &Environment, connection: &Connection, session: Uuid) -> anyhow::Result<()> {
    let authorization = environment.authorize(fill::owner(0), session)?;
    let body = encode_frame(&taskey_proto::task::v1::ListTasksRequest::default());
    let call = Call { path: "/taskey.task.v1.TaskService/ListTasks", authorization, body };
    connection.call(call).await.map(drop)
}

/// Waits until a session is refused, and returns how long that took.
async fn await_refusal(environment: &Environment, connection: &Connection, session: Uuid) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while list_tasks(environment, connection, session).await.is_ok() {
        anyhow::ensure!(started.elapsed() < TIMEOUT, "the sessions are not refused");
        sleep(Duration::from_millis(2)).await;
    }
    Ok(started.elapsed())
}
