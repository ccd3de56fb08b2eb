//! `SQLite`: several readers, whose concurrent reads share a look at the file, and one writer, whose concurrent writes share
//! a commit.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Context;
use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, SqliteConnection,
    error::DatabaseError,
    migrate::{Migration, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    Error, compare,
    driver::{RusqliteConnection, RusqliteOptions},
    explain,
    pool::Pool,
};
use crate::config::PoolArgs;

mod reads;
mod writes;

pub use reads::Extent;
use reads::{Read, read_in_groups};
pub use writes::Shape;
use writes::{Done, Fault, Job, Write, commit_in_groups};

/// Reading takes a core, hardly ever a disk; more readers at once would cost memory and gain nothing. One more, so that a long
/// search does not keep waiting who comes after it.
const SPARE_READERS: u32 = 1;

/// Each connection keeps so many KiB of pages (negative, as `SQLite` has it), twice what it would otherwise: the writer needs
/// those of all indexes, and whoever searches those of all that an owner has.
const CACHE: &str = "-4000";

/// How many reads and how many writes may wait. Beyond it one waits for a place, as long as its deadline lets it.
const QUEUE: usize = 1024;

/// What `SQLite` says of a file that another has locked (`SQLITE_BUSY`),
const BUSY: &str = "5";

/// and how long it is before it is asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// The readers and the writer of a file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: Pool<RusqliteConnection>,
    reads: mpsc::Sender<Read>,
    writes: mpsc::Sender<Job>,
    limit: Duration,
}

impl Sqlite {
    pub(super) async fn open(path: &Path, migrations: &Migrator, args: &PoolArgs) -> anyhow::Result<Self> {
        let place = || format!("the database {}", path.display());
        create_private(path).with_context(place)?;
        set_up(path, migrations, args).await.with_context(place)?;
        let limit = args.database_timeout;
        let options = RusqliteOptions::new(path).busy_timeout(limit).pragma("cache_size", CACHE);
        let reading = options.clone().pragma("query_only", "on");
        let readers = args.database_connections.min(cores().saturating_add(SPARE_READERS));
        let readers = Pool::new(reading, readers, limit);
        let writing = options.pragma("synchronous", "full").pragma("foreign_keys", "on");
        let (reads, queue) = mpsc::channel(QUEUE);
        tokio::spawn(read_in_groups(readers.clone(), queue));
        let (writes, queue) = mpsc::channel(QUEUE);
        thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || commit_in_groups(&writing, queue))?;
        Ok(Self { readers, reads, writes, limit })
    }

    /// Has a reader run `work`, on a thread where it may block unless it looks at a single row. Reads that wait at the same
    /// time see the file as it is when the first of them begins.
    ///
    /// # Errors
    /// As `work`, and if no reader becomes free in time. After [`Error::Timeout`] it may still be running.
    pub async fn read<T, F>(&self, extent: Extent, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut RusqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let run = reads::as_run(move |connection| {
            // Whoever has gone meanwhile need not keep the others waiting.
            if !answer.is_closed() {
                _ = answer.send(at_once(work(connection)));
            }
        });
        let read = async {
            self.reads.send(Read { extent, run }).await.map_err(|_| sqlx::Error::PoolClosed)?;
            // It was dropped.
            outcome.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
        };
        Ok(timeout(self.limit, read).await.map_err(|_| Error::Timeout)??)
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
        F: for<'c> FnOnce(&'c mut RusqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
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
        F: for<'c> FnOnce(&'c mut RusqliteConnection) -> BoxFuture<'c, Result<Result<T, E>, sqlx::Error>>
            + Send
            + 'static,
    {
        self.write_unless(Result::is_err, Shape::Several, work).await
    }

    async fn write_unless<T, F>(&self, undone: fn(&T) -> bool, shape: Shape, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut RusqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let run = writes::as_run(move |connection| {
            let result = catch_unwind(AssertUnwindSafe(|| at_once(work(connection))));
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
        });
        let not_run = || Error::Commit("the write was not carried out".to_owned());
        let written = async {
            self.writes.send(Job::Write(Write { shape, run })).await.map_err(|_| not_run())?;
            outcome.await.map_err(|_| not_run())?
        };
        timeout(self.limit, written).await.map_err(|_| Error::Timeout)?
    }

    pub(super) async fn close(&self) {
        let (closed, is_closed) = oneshot::channel();
        // Either fails where it has been closed before.
        _ = self.writes.send(Job::Close(closed)).await;
        _ = is_closed.await;
        self.readers.close().await;
    }
}

/// What a future of the driver comes to, which blocks until it is there.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("whoever works with a file waits for nothing else")
}

/// `SQLite` would make the file with the usual mode; but it holds password hashes.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
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

/// What a migration says between these is for other engines alone.
const ELSEWHERE_ONLY: [&str; 2] = ["/* elsewhere: */", "/* :elsewhere */"];

/// Has `change` take the place of what stands between the two marks, and of the marks.
fn between([start, end]: [&str; 2], sql: &str, change: impl Fn(&str) -> &str) -> String {
    let mut parts = sql.split(start);
    let before = parts.next().unwrap_or_default().to_owned();
    let parts = parts.map(|part| part.split_once(end).unwrap_or((part, "")));
    parts.fold(before, |sql, (inside, after)| sql + change(inside) + after)
}

/// The migrations as `SQLite` is to carry them out.
fn for_sqlite(migrations: &Migrator) -> Migrator {
    let adapt = |sql: &str| between(ELSEWHERE_ONLY, &between(HERE_ONLY, sql, |inside| inside), |_| "");
    // The checksums are those of what is written, so that they do not depend on the engine.
    let migrations = migrations.iter().map(|migration| Migration {
        sql: AssertSqlSafe(adapt(migration.sql.as_str())).into_sql_str(),
        ..migration.clone()
    });
    Migrator::with_migrations(migrations.collect())
}

/// Looks for damage, and brings the tables up to date.
async fn set_up(path: &Path, migrations: &Migrator, args: &PoolArgs) -> anyhow::Result<()> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(args.database_timeout);
    // The file remembers how it keeps its journal.
    let mut connection = connect(&options.journal_mode(SqliteJournalMode::Wal), args.database_timeout).await?;
    look_for_damage(&mut connection).await?;
    // In one transaction: of two processes that start at once, the second waits for the first.
    let mut alone = connection.begin_with("begin immediate").await?;
    for_sqlite(migrations).run_direct(None, &mut *alone, false).await.map_err(explain)?;
    alone.commit().await?;
    Ok(connection.close().await?)
}

/// Connects. Who is about to change how the journal is kept is not made to wait for another who does, but told at once that
/// the file is locked: of two that start on a new one together, one would fail.
async fn connect(options: &SqliteConnectOptions, limit: Duration) -> sqlx::Result<SqliteConnection> {
    let start = Instant::now();
    loop {
        match options.connect().await {
            Err(error) if is_locked(&error) && start.elapsed() < limit => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some(BUSY)
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
