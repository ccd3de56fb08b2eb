//! Writes, which share a commit.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::db::{
    Error,
    call::Call,
    conn::sqlite::{Failure, OpenOptions, SqliteConn},
    conn::{Conn, Kind},
};

/// How many writes share a commit at most.
const MAX_BATCH: usize = 256;

/// Whether a write needs a savepoint to take effect as a whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum WriteKind {
    /// One statement.
    Statement,
    /// Several statements.
    Transaction,
}

/// A write that waits for the writer.
pub(super) enum Job {
    Write(Write),
    /// Execute what was asked for before, and end.
    Close(oneshot::Sender<()>),
}

/// A write that waits in the queue.
pub(super) struct Write {
    pub(super) kind: WriteKind,
    pub(super) call: Arc<Call>,
    pub(super) run: Run,
}

pub(super) type Run = Box<dyn FnOnce(&mut Conn) -> Executed + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(&mut Conn) -> Executed + Send + 'static) -> Run {
    Box::new(run)
}

/// A write that has been executed and is not committed yet.
pub(super) struct Executed {
    /// Whether it shall take effect.
    pub(super) succeeded: bool,
    /// Sends the result to the caller, when the commit has succeeded or has failed for the reason given.
    pub(super) acknowledge: Acknowledge,
}

pub(super) type Acknowledge = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Executes all writes that wait in one transaction, commits, and only then acknowledges them. This is the one writer,
/// on a thread of its own; it ends when the queue is closed.
pub(super) fn commit_in_groups(options: &OpenOptions, mut queue: mpsc::Receiver<Job>) {
    let (mut writer, mut jobs, mut closing) = (None, Vec::with_capacity(MAX_BATCH), Vec::new());
    while closing.is_empty() && queue.blocking_recv_many(&mut jobs, MAX_BATCH) > 0 {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Write(write) => batch.push(write),
                Job::Close(closed) => closing.push(closed),
            }
        }
        let mut executed = Vec::with_capacity(batch.len());
        let committed = commit(options, &mut writer, batch, &mut executed);
        if let Err(error) = &committed {
            tracing::warn!(%error, "a group of writes could not be committed");
        }
        let committed = committed.map_err(|error| error.to_string());
        for acknowledge in executed {
            acknowledge(committed.clone());
        }
    }
    drop((writer, queue));
    for closed in closing {
        // The caller may be gone.
        _ = closed.send(());
    }
}

/// Executes a batch in one transaction. If that fails, the connection is closed: SQLite may have rolled back by itself.
/// The rest of the batch is dropped without another try, as the fault is the database's.
fn commit(
    options: &OpenOptions,
    writer: &mut Option<Conn>,
    batch: Vec<Write>,
    executed: &mut Vec<Acknowledge>,
) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut conn = match writer.take() {
        Some(conn) => conn,
        None => Conn::new(Kind::Sqlite(Box::new(options.open()?))),
    };
    sqlite(&mut conn).control("begin immediate")?;
    for write in batch {
        // One that has been given up is skipped, since its caller has been told that it failed.
        if write.call.start() {
            execute(&mut conn, write, executed)?;
        }
    }
    sqlite(&mut conn).control("commit")?;
    *writer = Some(conn);
    Ok(())
}

/// Executes one write. One that fails by itself fails alone.
///
/// # Errors
/// What makes the whole transaction fail.
fn execute(conn: &mut Conn, write: Write, executed: &mut Vec<Acknowledge>) -> Result<(), Error> {
    let has_savepoint = write.kind == WriteKind::Transaction;
    if has_savepoint {
        sqlite(conn).control("savepoint write")?;
    }
    let Executed { succeeded, acknowledge } = (write.run)(conn);
    executed.push(acknowledge);
    if let Some(Failure::Fatal(reason)) = sqlite(conn).take_failure() {
        return Err(Error::NotCommitted(reason));
    }
    if has_savepoint {
        if !succeeded {
            sqlite(conn).control("rollback to write")?;
        }
        sqlite(conn).control("release write")?;
    }
    Ok(())
}

fn sqlite(conn: &mut Conn) -> &mut SqliteConn {
    match &mut conn.kind {
        Kind::Sqlite(conn) => conn,
        Kind::Postgres(_) => unreachable!("the writer of a file has a connection to a file"),
    }
}
