//! Writes. Concurrent writes share a commit.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use metrics::Histogram;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::reads::open;
use crate::{
    db::{
        Error,
        call::{Call, Caller},
        conn::sqlite::{Failure, OpenOptions, SqliteConn},
        conn::{Conn, Kind},
    },
    ops::as_gauge,
};

/// A write that takes longer than this multiple of the time limit of calls is stopped. It fails the writes that share
/// its commit, so that it should only happen if something is wrong.
const WRITE_LIMIT_FACTOR: u32 = 5;

/// Maximum number of writes that share a commit.
const MAX_BATCH: usize = 256;

/// Maximum size of the write-ahead log. SQLite begins to write it from the start again only in a moment in which nobody
/// reads from it, and with many long reads there may be none.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// How long a batch waits for more writes if the previous one had several. Their callers have just received the
/// responses, and often write again at once: without this, every other batch would have a single write.
const GATHER_LIMIT: Duration = Duration::from_micros(100);

/// How a write is atomic. A savepoint takes as long as two statements, because SQLite copies all pages that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum WriteKind {
    /// One statement, which needs no savepoint.
    Statement,
    /// Several statements, which are rolled back to a savepoint if one of them fails.
    Transaction,
    /// Several statements, the first of which that writes comes after all checks and may fail. If a later one fails, the
    /// whole batch is rolled back.
    AfterChecks,
}

/// A job for the writer.
pub(super) enum Job {
    Write(Write),
    /// Executes the writes that are already queued, and stops the writer.
    Close(oneshot::Sender<()>),
}

/// A queued write.
pub(super) struct Write {
    pub(super) kind: WriteKind,
    pub(super) call: Arc<Call>,
    pub(super) run: Run,
}

/// Executes the statements of a write.
pub(super) type Run = Box<dyn FnOnce(&mut Conn) -> Executed + Send>;

/// Boxes a closure. The bound lets the compiler infer that the closure accepts a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(&mut Conn) -> Executed + Send + 'static) -> Run {
    Box::new(run)
}

/// A write that has been executed and is not committed yet.
pub(super) struct Executed {
    /// Whether the write has succeeded. If not, it is rolled back to its savepoint, if it has one.
    pub(super) succeeded: bool,
    /// Sends the result to the caller, after the commit succeeded or failed with the given reason.
    pub(super) acknowledge: Acknowledge,
}

pub(super) type Acknowledge = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Executes the queued writes in batches. A batch is one transaction, and its writes are acknowledged after the commit.
/// Runs on a separate thread as the only writer, until the queue is closed. A write that takes much longer than
/// `limit` is stopped, so that others do not wait forever. `commit_size` receives the number of writes in each batch.
pub(super) fn commit_in_batches(
    options: &OpenOptions,
    limit: Duration,
    mut queue: mpsc::Receiver<Job>,
    commit_size: &OnceLock<Histogram>,
) {
    let (mut writer, mut jobs, mut closing) = (None, Vec::with_capacity(MAX_BATCH), Vec::new());
    let mut log = WriteAheadLog { path: options.log_path(), limit: MAX_LOG_BYTES };
    let mut batch_size = 1;
    while closing.is_empty() && queue.blocking_recv_many(&mut jobs, MAX_BATCH) > 0 {
        gather(&mut queue, &mut jobs, batch_size);
        batch_size = jobs.len();
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Write(write) => batch.push(write),
                Job::Close(closed) => closing.push(closed),
            }
        }
        if let Some(commit_size) = commit_size.get().filter(|_| !batch.is_empty()) {
            commit_size.record(as_gauge(batch.len()));
        }
        let mut executed = Vec::with_capacity(batch.len());
        let committed = commit(options, limit, &mut writer, batch, &mut executed);
        if let Err(error) = &committed {
            tracing::warn!(%error, "a batch of writes could not be committed");
        }
        let committed = committed.map_err(|error| error.to_string());
        for acknowledge in executed {
            acknowledge(committed.clone());
        }
        if let Some(writer) = &mut writer {
            log.keep_small(writer);
        }
    }
    drop((writer, queue));
    for closed in closing {
        // The caller may be gone.
        _ = closed.send(());
    }
}

/// Waits until as many jobs are queued as in the previous batch, at most for [`GATHER_LIMIT`].
fn gather(queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>, previous: usize) {
    let end = Instant::now() + GATHER_LIMIT;
    while jobs.len() < previous && Instant::now() < end {
        // Sleeping would take at least 50 µs.
        thread::yield_now();
        while jobs.len() < MAX_BATCH
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
    }
}

/// The write-ahead log of a file.
struct WriteAheadLog {
    path: PathBuf,
    /// The size at which the log is truncated.
    limit: u64,
}

impl WriteAheadLog {
    /// Truncates the log if it is too large. Reads that begin meanwhile do not use the log, so this waits at most for one
    /// read. If that takes too long, the next attempt is after the log has grown by as much again.
    fn keep_small(&mut self, writer: &mut Conn) {
        if self.size() > self.limit {
            if let Err(error) = sqlite(writer).truncate_log() {
                tracing::warn!(%error, "the write-ahead log cannot be truncated");
            }
            self.limit = self.size() + MAX_LOG_BYTES;
        }
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

/// Executes a batch in one transaction. If that fails, the connection is closed, because SQLite may have rolled back by
/// itself. The rest of the batch is dropped without a retry, because it is the database that has failed, not a write.
fn commit(
    options: &OpenOptions,
    limit: Duration,
    writer: &mut Option<Conn>,
    batch: Vec<Write>,
    executed: &mut Vec<Acknowledge>,
) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut conn = match writer.take() {
        Some(conn) => conn,
        None => open(options)?,
    };
    sqlite(&mut conn).control("begin immediate")?;
    for write in batch {
        // An abandoned write is skipped, because its caller has received an error.
        if write.call.start() {
            let limited = Caller::new(Instant::now() + limit * WRITE_LIMIT_FACTOR);
            sqlite(&mut conn).set_current(Some(limited.call()));
            execute(&mut conn, write, executed)?;
            sqlite(&mut conn).set_current(None);
        }
    }
    sqlite(&mut conn).control("commit")?;
    *writer = Some(conn);
    Ok(())
}

/// Executes one write. If only the write fails, the other writes of the transaction are not affected.
///
/// # Errors
/// If the whole transaction fails.
fn execute(conn: &mut Conn, write: Write, executed: &mut Vec<Acknowledge>) -> Result<(), Error> {
    let (kind, changes) = (write.kind, sqlite(conn).total_changes());
    if kind == WriteKind::Transaction {
        sqlite(conn).control("savepoint write")?;
    }
    let Executed { succeeded, acknowledge } = (write.run)(conn);
    executed.push(acknowledge);
    if let Some(Failure::Fatal { reason, .. }) = sqlite(conn).take_failure() {
        return Err(Error::NotCommitted(reason));
    }
    match kind {
        WriteKind::Transaction => {
            if !succeeded {
                sqlite(conn).control("rollback to write")?;
            }
            sqlite(conn).control("release write")
        }
        WriteKind::AfterChecks if !succeeded && sqlite(conn).total_changes() > changes => {
            Err(Error::NotCommitted("a write failed after it had changed rows".to_owned()))
        }
        WriteKind::AfterChecks | WriteKind::Statement => Ok(()),
    }
}

fn sqlite(conn: &mut Conn) -> &mut SqliteConn {
    match &mut conn.kind {
        Kind::Sqlite(conn) => conn,
        Kind::Postgres(_) => unreachable!("the SQLite writer has a SQLite connection"),
    }
}
