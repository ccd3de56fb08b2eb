//! Inserts rows into the tables of a service, because creating them through the service would take hours.

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

/// The tables of a service.
pub(crate) struct Tables {
    /// The URL of the database of the service.
    pub(crate) url: String,
    /// The schema, on PostgreSQL.
    pub(crate) schema: &'static str,
}

impl Tables {
    fn sqlite_path(&self) -> Option<&str> {
        self.url.strip_prefix("sqlite:")
    }

    /// Returns an SQL expression for [`id`] of a number, which is an SQL expression as well.
    pub(crate) fn id_sql(&self, number: &str) -> String {
        match self.sqlite_path() {
            Some(_) => format!("unhex(printf('018bcfe5680070008000%012x', {number}))"),
            None => format!("('018bcfe5-6800-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"),
        }
    }

    /// Executes statements.
    pub(crate) async fn execute(&self, statements: String) -> anyhow::Result<()> {
        if let Some(path) = self.sqlite_path() {
            let options = SqliteConnectOptions::new().filename(path).pragma("cache_size", "-400000");
            let mut connection = options.pragma("synchronous", "off").connect().await?;
            connection.execute(AssertSqlSafe(statements)).await?;
            return Ok(connection.close().await?);
        }
        let mut connection = PgConnection::connect(&self.url).await?;
        let statements = format!("set search_path to {}; {statements}", self.schema);
        connection.execute(AssertSqlSafe(statements)).await?;
        connection.execute("vacuum analyze").await?;
        Ok(connection.close().await?)
    }

    /// Inserts tasks of several owners, who take turns: each creates `sitting` tasks before the next one does. The ids of
    /// the owners are [`owner`] of their numbers.
    pub(crate) async fn fill_tasks(&self, owners: u32, tasks_per_owner: u32, sitting: u32) -> anyhow::Result<()> {
        let fill = self.fill_tasks_sql(owners, tasks_per_owner, sitting);
        if self.sqlite_path().is_none() {
            return self.execute(fill).await;
        }
        // SQLite has the long texts in a table of their own.
        self.execute(format!(
            "alter table tasks add column notes text; alter table tasks add column search text; {fill}
            insert into task_texts (owner_id, id, notes, search) select owner_id, id, notes, search from tasks;
            alter table tasks drop column notes; alter table tasks drop column search;"
        ))
        .await
    }

    fn fill_tasks_sql(&self, owners: u32, tasks_per_owner: u32, sitting: u32) -> String {
        let count = owners * tasks_per_owner;
        let (number, owner) = (self.id_sql("n"), self.id_sql(&format!("{FIRST_OWNER} + whose")));
        format!(
            "with recursive numbers (n) as (
                select cast(0 as bigint) union all select n + 1 from numbers where n < {count} - 1)
            insert into tasks (owner_id, id, list_id, priority, due_time, due_at, time_zone, create_time, update_time,
                complete_time, revision, change, rank, title, labels, label_keys, notes,
                search)
            select owner, {number}, owner, k % 4, due, due, '', n, n, case when k % 5 = 0 then n end, 1, k + 1,
                '6' || substr(cast(10000000000000 + k as text), 2) || '0005', title, labels, labels,
                notes, lower(title || '\n' || notes)
            from (
                select n, k, {owner} as owner, '\nhome\nweek-' || (k % 52) || '\n' as labels,
                    case when k % 3 = 0 then 1790000000000000 + k * 1000000 end as due,
                    'Ring the plumber about tap ' || k as title,
                    'The one in the kitchen drips again. Ask what a new one costs.' as notes
                from (
                    select n, n / {sitting} % {owners} as whose,
                        n / ({sitting} * {owners}) * {sitting} + n % {sitting} as k
                    from numbers
                ) numbered
            ) made;
            insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists)
            select owner_id, max(change), 0, count(*), 1 from tasks group by owner_id;
            insert into task_lists (owner_id, id, title, create_time, update_time, revision, change)
            select owner_id, owner_id, 'Tasks', 0, 0, 1, 1 from owners;"
        )
    }
}

/// The number whose id is that of the first owner of tasks.
const FIRST_OWNER: u32 = 1_000_000_000;

/// Returns the id of a row with a number.
pub(crate) fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000 + u128::from(number))
}

/// Returns the id of an owner of tasks.
pub(crate) fn owner(number: u32) -> Uuid {
    id(FIRST_OWNER + number)
}
