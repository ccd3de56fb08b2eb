//! `SQLite`: several readers and one writer, whose concurrent writes share a commit.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, panic::AssertUnwindSafe, path::Path, time::Duration};

use anyhow::Context;
use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    ConnectOptions, Connection, Sqlite as Engine, SqliteConnection, SqlitePool,
    error::ErrorKind,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Error, compare, explain};
use crate::config::PoolArgs;

/// How many writes share a commit at most.
const MAX_BATCH: usize = 256;

/// How many writes may wait. Beyond it a write waits for a place, as long as its deadline lets it.
const QUEUE: usize = 1024;

/// The readers and the writer of a file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: SqlitePool,
    writer: SqlitePool,
    writes: mpsc::Sender<Write>,
    limit: Duration,
}

/// What a write consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One statement, which takes effect as a whole or not at all.
    Statement,
    /// Several statements, which need a savepoint for that.
    Several,
}

/// A write that waits for its turn.
struct Write {
    shape: Shape,
    run: Run,
}

type Run = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
fn as_run(run: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send + 'static) -> Run {
    Box::new(run)
}

/// A write that has run and is not committed yet.
struct Done {
    /// The write failed by its own fault, or by one that spoils the whole transaction.
    fault: Option<Fault>,
    /// Tells the caller how it ended, when the commit has succeeded or has come to nothing for the reason given.
    acknowledge: Box<dyn FnOnce(Result<(), String>) + Send>,
}

#[derive(Clone, Debug)]
enum Fault {
    Own,
    Shared(String),
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
        let readers = SqlitePoolOptions::new()
            .max_connections(args.database_connections)
            .test_before_acquire(false)
            .acquire_timeout(args.database_timeout)
            .connect_lazy_with(options.pragma("query_only", "on"));
        let (writes, queue) = mpsc::channel(QUEUE);
        tokio::spawn(commit_in_groups(writer.clone(), queue));
        Ok(Self { readers, writer, writes, limit: args.database_timeout })
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// If none becomes free in time.
    pub async fn reader(&self) -> Result<PoolConnection<Engine>, Error> {
        Ok(self.readers.acquire().await?)
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
        let (answer, outcome) = oneshot::channel();
        let run = as_run(move |connection| {
            async move {
                let result = AssertUnwindSafe(work(connection)).catch_unwind().await;
                let result = result.unwrap_or(Err(sqlx::Error::WorkerCrashed));
                let fault = result.as_ref().err().map(Fault::of);
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

impl Fault {
    /// A statement that violates a constraint takes no effect and leaves the transaction as it was. After any other
    /// error (a full disk, say) `SQLite` may have rolled the whole transaction back.
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::Own,
            sqlx::Error::Database(error) if error.kind() != ErrorKind::Other => Self::Own,
            error => Self::Shared(error.to_string()),
        }
    }
}

/// The one writer: takes all writes that wait, runs them in one transaction, commits, and only then acknowledges them.
async fn commit_in_groups(writer: SqlitePool, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let mut done = Vec::with_capacity(batch.len());
        let committed = commit(&writer, &mut batch, &mut done).await;
        if let Err(error) = &committed {
            tracing::warn!(%error, "a group of writes could not be committed");
            // What did not get its turn is not worth another try: the fault is the database's.
            batch.clear();
        }
        let committed = committed.map_err(|error| error.to_string());
        for write in done {
            (write.acknowledge)(committed.clone());
        }
    }
}

/// Runs a batch in one transaction. After a fault that undoes it, the connection is closed: `SQLite` may have rolled
/// back by itself, and then nobody knows any more how many transactions are open on it.
async fn commit(writer: &SqlitePool, batch: &mut Vec<Write>, done: &mut Vec<Done>) -> Result<(), sqlx::Error> {
    let mut connection = writer.acquire().await?;
    let committed = commit_on(&mut connection, batch, done).await;
    if committed.is_err() {
        _ = connection.detach().close_hard().await;
    }
    committed
}

/// A write that fails by its own fault fails alone; any other fault undoes the whole batch.
async fn commit_on(
    connection: &mut SqliteConnection,
    batch: &mut Vec<Write>,
    done: &mut Vec<Done>,
) -> Result<(), sqlx::Error> {
    let mut group = connection.begin_with("begin immediate").await?;
    for write in batch.drain(..) {
        let outcome = match write.shape {
            Shape::Statement => (write.run)(&mut group).await,
            Shape::Several => {
                let mut savepoint = group.begin().await?;
                let outcome = (write.run)(&mut savepoint).await;
                match &outcome.fault {
                    None => savepoint.commit().await?,
                    Some(_) => savepoint.rollback().await?,
                }
                outcome
            }
        };
        let fault = outcome.fault.clone();
        done.push(outcome);
        if let Some(Fault::Shared(reason)) = fault {
            return Err(sqlx::Error::Protocol(reason));
        }
    }
    group.commit().await
}

/// `SQLite` would make the file with the usual mode; but it holds password hashes.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
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

/// Looks for damage, and brings the tables up to date.
async fn set_up(writer: &SqlitePool, migrations: &Migrator) -> anyhow::Result<()> {
    let mut connection = writer.acquire().await?;
    look_for_damage(&mut connection).await?;
    // In one transaction: of two processes that start at once, the second waits for the first.
    let mut alone = connection.begin_with("begin immediate").await?;
    migrations.run_direct(None, &mut *alone, false).await.map_err(explain)?;
    Ok(alone.commit().await?)
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::{Migration, MigrationType};
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
