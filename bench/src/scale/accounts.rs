//! Sign-ups and logins, with many accounts.

use std::sync::Arc;

use anyhow::{Context, ensure};
use service_kit::random;

use super::{Scale, memory};
use crate::{
    load,
    report::Table,
    workload::{Client, Workload},
};

/// Cheap hashes, so that the cost of the other steps is visible.
const CHEAP_HASHES: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];

impl Scale {
    pub(super) async fn measure_accounts(&self) -> anyhow::Result<Table> {
        let calls = ["sign-up, CPU µs without the hash", "log in"];
        let mut table = Table::new(&["accounts", "database", calls[0], calls[1], "memory, MiB"]);
        for accounts in self.sizes([1000, 100_000, 1_000_000]) {
            for (environment, database) in self.databases().await? {
                let process = environment.taskey(&database, &CHEAP_HASHES)?;
                let url = format!("http://{}", process.address("gateway"));
                let workload = Arc::new(Workload::parse(include_str!("../../workloads/accounts.toml"), Some(url))?);
                let run = random::id().simple().to_string();
                let seeded = workload.seed(1, 1, &run).await.context("cannot sign up")?;
                let auth = database.auth_tables();
                let id = auth.id_sql("n");
                // All have the password of the account that exists.
                let insert = format!(
                    "insert into users (id, email, display_name, password_hash, email_verified, roles, disabled,
                        created_at, updated_at)
                    with recursive numbers (n) as (
                        select cast(0 as bigint) union all select n + 1 from numbers where n < {accounts} - 1)
                    select {id}, 'u' || n || '@example.org', '', password_hash, false, '', false, n, n
                    from numbers cross join users"
                );
                auth.execute(insert).await.context("cannot insert accounts")?;
                let measured = database.measured_processes(&process);
                let mut clients = Client::create_all(&workload, seeded, 4)?;
                let mut cells = vec![accounts.to_string(), database.engine.to_owned()];
                for call in 0..2 {
                    let outcome = load::closed_rest_loop(&mut clients, call, self.time, &measured).await?;
                    ensure!(outcome.failed == 0, "{} calls failed", outcome.failed);
                    cells.push(format!("{:.0}", outcome.cpu.total().as_secs_f64() * 1e6));
                }
                cells.push(format!("{:.1}", memory(&process)));
                table.add(cells);
                drop(process);
                database.remove().await?;
            }
        }
        Ok(table)
    }
}
