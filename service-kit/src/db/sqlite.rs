//! `SQLite`: several readers and one writer, whose concurrent writes share a commit.

use std::{
    fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, panic::AssertUnwindSafe, path::Path, thread, time::Duration,
};

use anyhow::Context;
use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, SqliteConnection, SqlitePool,
    migrate::{Migration, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Error, compare, explain,
    pool::{Held, Pool},
};
use crate::config::PoolArgs;

mod group;

pub use group::Shape;
use group::{Done, Fault, Write, as_run, commit_in_groups};

/// Reading takes a core, hardly ever a disk; more readers at once would cost memory and gain nothing.
const READERS_PER_CORE: u32 = 2;

/// Each reader keeps so many KiB of pages (negative, as SQLite has it), half of what it would otherwise.
const READER_CACHE: &str = "-1000";

/// How many writes may wait. Beyond it a write waits for a place, as long as its deadline lets it.
const QUEUE: usize = 1024;

/// The readers and the writer of a file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: Pool<SqliteConnection>,
    writer: SqlitePool,
    writes: mpsc::Sender<Write>,
    limit: Duration,
}

impl Sqlite {
    pub(super) async fn open(path: &Path, migrations: &Migrator, args: &PoolArgs) -> anyhow::Result<Self> {
        let place = || format!("the database {}", path.display());
        create_private(path).with_context(place)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(args.database_timeout);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .acquire_timeout(args.database_timeout)
            .connect_lazy_with(options.clone());
        set_up(&writer, migrations).await.with_context(place)?;
        let readers = args.database_connections.min(READERS_PER_CORE * cores());
        let options = options.pragma("query_only", "on").pragma("cache_size", READER_CACHE);
        let readers = Pool::new(options, readers, args.database_timeout);
        let (writes, queue) = mpsc::channel(QUEUE);
        tokio::spawn(commit_in_groups(writer.clone(), queue));
        Ok(Self { readers, writer, writes, limit: args.database_timeout })
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// If none becomes free in time.
    pub async fn reader(&self) -> Result<Held<SqliteConnection>, Error> {
        self.readers.take().await
    }

    /// How long a call may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Has the writer run `work` and returns after the commit. Once it waits in the queue it is carried out, even if
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// As `work`, which has taken no effect then; or if the commit failed. After [`Error::Timeout`] it may still take
    /// effect.
    pub async fn write<T, F>(&self, shape: Shape, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.write_unless(|_| false, shape, work).await
    }

    /// As [`write`](Self::write) of several statements, which take no effect either where `work` gives an inner error.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn attempt<T, E, F>(&self, work: F) -> Result<Result<T, E>, Error>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<Result<T, E>, sqlx::Error>>
            + Send
            + 'static,
    {
        self.write_unless(Result::is_err, Shape::Several, work).await
    }

    async fn write_unless<T, F>(&self, undone: fn(&T) -> bool, shape: Shape, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let run = as_run(move |connection| {
            async move {
                let result = AssertUnwindSafe(work(connection)).catch_unwind().await;
                let result = result.unwrap_or(Err(sqlx::Error::WorkerCrashed));
                let fault = match &result {
                    Ok(value) => undone(value).then_some(Fault::Own),
                    Err(error) => Some(Fault::of(error)),
                };
                let acknowledge = move |committed: Result<(), String>| {
                    let outcome = match committed {
                        Ok(()) => result.map_err(Error::from),
                        Err(reason) => Err(Error::Commit(reason)),
                    };
                    // The caller may have gone.
                    _ = answer.send(outcome);
                };
                Done { fault, acknowledge: Box::new(acknowledge) }
            }
            .boxed()
        });
        let not_run = || Error::Commit("the write was not carried out".to_owned());
        let written = async {
            self.writes.send(Write { shape, run }).await.map_err(|_| not_run())?;
            outcome.await.map_err(|_| not_run())?
        };
        timeout(self.limit, written).await.map_err(|_| Error::Timeout)?
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// `SQLite` would make the file with the usual mode; but it holds password hashes.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX / READERS_PER_CORE))
}

/// Looks for damage and for tables that are not ours, and changes nothing.
pub(super) async fn inspect(path: &Path, migrations: &Migrator) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let inspected = async {
        let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
        look_for_damage(&mut connection).await?;
        let migrated = "select exists (select 1 from sqlite_master where name = '_sqlx_migrations')";
        if sqlx::query_scalar(migrated).fetch_one(&mut connection).await? {
            let applied = "select version, checksum from _sqlx_migrations";
            compare(sqlx::query_as(applied).fetch_all(&mut connection).await?, migrations)?;
        }
        anyhow::Ok(connection.close().await?)
    };
    inspected.await.with_context(|| format!("the database {}", path.display()))
}

async fn look_for_damage(connection: &mut SqliteConnection) -> anyhow::Result<()> {
    let found: String = sqlx::query_scalar("pragma quick_check(1)").fetch_one(connection).await?;
    anyhow::ensure!(found == "ok", "it is damaged: {found}");
    Ok(())
}

/// What a migration says between these is a comment for other engines, and part of the statement here.
const HERE_ONLY: [&str; 2] = ["/* sqlite: ", " */"];

/// The migrations as `SQLite` is to carry them out.
fn for_sqlite(migrations: &Migrator) -> Migrator {
    let [start, end] = HERE_ONLY;
    let uncomment = |sql: &str| {
        let mut parts = sql.split(start);
        let before = parts.next().unwrap_or_default().to_owned();
        parts.fold(before, |sql, part| sql + &part.replacen(end, "", 1))
    };
    // The checksums are those of what is written, so that they do not depend on the engine.
    let migrations = migrations.iter().map(|migration| Migration {
        sql: AssertSqlSafe(uncomment(migration.sql.as_str())).into_sql_str(),
        ..migration.clone()
    });
    Migrator::with_migrations(migrations.collect())
}

/// Looks for damage, and brings the tables up to date.
async fn set_up(writer: &SqlitePool, migrations: &Migrator) -> anyhow::Result<()> {
    let mut connection = writer.acquire().await?;
    look_for_damage(&mut connection).await?;
    // In one transaction: of two processes that start at once, the second waits for the first.
    let mut alone = connection.begin_with("begin immediate").await?;
    for_sqlite(migrations).run_direct(None, &mut *alone, false).await.map_err(explain)?;
    Ok(alone.commit().await?)
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::MigrationType;
    use tempfile::tempdir;

    use super::*;

    async fn write(db: &Sqlite, sql: &'static str) -> Result<(), Error> {
        db.write(Shape::Statement, move |connection| {
            Box::pin(async move { sqlx::query(sql).execute(connection).await.map(|_| ()) })
        })
        .await
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_writes_that_meet_it_and_none_after() {
        let folder = tempdir().expect("a folder");
        let table = sqlx::SqlStr::from_static("create table items (content blob)");
        let migration = Migration::new(1, "items".into(), MigrationType::Simple, table, false);
        let args = PoolArgs { database_connections: 1, database_timeout: Duration::from_secs(5) };
        let path = folder.path().join("test.db");
        let db = Sqlite::open(&path, &Migrator::with_migrations(vec![migration]), &args).await.expect("it opens");
        // The limit holds for the connection, as a full disk does until there is room again.
        write(&db, "pragma max_page_count = 10").await.expect("limited");
        let full = write(&db, "insert into items values (zeroblob(1000000))").await.expect_err("there is no room");
        assert_eq!(crate::status::Refusal::from(full).code(), tonic::Code::Unavailable);
        for _ in 0..3 {
            write(&db, "insert into items values (zeroblob(1000000))").await.expect("there is room again");
        }
    }
}
