//! Writes that share a commit.

use futures::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool, error::ErrorKind, query};
use tokio::sync::mpsc;

/// How many writes share a commit at most.
const MAX_BATCH: usize = 256;

/// What a write consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One statement, which takes effect as a whole or not at all.
    Statement,
    /// Several statements, which need a savepoint for that.
    Several,
}

/// A write that waits for its turn.
pub(super) struct Write {
    pub(super) shape: Shape,
    pub(super) run: Run,
}

pub(super) type Run = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_run(
    run: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send + 'static,
) -> Run {
    Box::new(run)
}

/// A write that has run and is not committed yet.
pub(super) struct Done {
    /// The write failed by its own fault, or by one that spoils the whole transaction.
    pub(super) fault: Option<Fault>,
    /// Tells the caller how it ended, when the commit has succeeded or has come to nothing for the reason given.
    pub(super) acknowledge: Box<dyn FnOnce(Result<(), String>) + Send>,
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    Own,
    Shared(String),
}

impl Fault {
    /// A statement that violates a constraint takes no effect and leaves the transaction as it was. After any other
    /// error (a full disk, say) `SQLite` may have rolled the whole transaction back.
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::Own,
            sqlx::Error::Database(error) if error.kind() != ErrorKind::Other => Self::Own,
            error => Self::Shared(error.to_string()),
        }
    }
}

/// The one writer: takes all writes that wait, runs them in one transaction, commits, and only then acknowledges them.
pub(super) async fn commit_in_groups(writer: SqlitePool, mut queue: mpsc::Receiver<Write>) {
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

/// A write that fails by its own fault fails alone; any other fault undoes the whole batch. A savepoint is let go where
/// the next begins, in one go: each trip to the connection's thread costs more than what is done there.
async fn commit_on(
    connection: &mut SqliteConnection,
    batch: &mut Vec<Write>,
    done: &mut Vec<Done>,
) -> Result<(), sqlx::Error> {
    let mut group = connection.begin_with("begin immediate").await?;
    let mut savepoint = "savepoint write";
    for write in batch.drain(..) {
        if write.shape == Shape::Several {
            query(savepoint).execute(&mut *group).await?;
            savepoint = "release write; savepoint write";
        }
        let outcome = (write.run)(&mut group).await;
        let fault = outcome.fault.clone();
        done.push(outcome);
        match fault {
            Some(Fault::Shared(reason)) => return Err(sqlx::Error::Protocol(reason)),
            Some(Fault::Own) if write.shape == Shape::Several => {
                query("rollback to write").execute(&mut *group).await?;
            }
            _ => {}
        }
    }
    group.commit().await
}
