//! Reads. Point reads are executed in a task of the async runtime, and scans on separate threads, so that a point read
//! does not wait behind a scan. The reads of the revocation feed have a thread of their own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};

use crate::db::{
    Error,
    call::Call,
    conn::sqlite::{Failure, OpenOptions, SqliteConn},
    conn::{Conn, Kind},
};

/// Maximum number of point reads in a transaction. Other tasks of the runtime thread wait for all of them.
const MAX_BATCH: usize = 32;

/// A job for a reader.
pub(super) enum ReadJob {
    Read(Read),
    /// Closes the connection and stops the reader.
    Close(oneshot::Sender<()>),
}

/// A queued read.
pub(super) struct Read {
    pub(super) call: Arc<Call>,
    pub(super) run: Run,
}

/// Reads, and sends the result to the caller. If there is no connection, it sends the error.
pub(super) type Run = Box<dyn FnOnce(Result<&mut Conn, Error>) + Send>;

/// Boxes a closure. The bound lets the compiler infer that the closure accepts a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(Result<&mut Conn, Error>) + Send + 'static) -> Run {
    Box::new(run)
}

/// A connection that is opened on demand.
struct Reader {
    options: OpenOptions,
    conn: Option<Conn>,
}

impl Reader {
    fn new(options: OpenOptions) -> Self {
        Self { options, conn: None }
    }

    /// Executes a read unless it was abandoned. Drops the connection if the read has failed fatally.
    fn execute(&mut self, read: Read) {
        if !read.call.start() {
            return;
        }
        let mut conn = match self.conn.take().map_or_else(|| open(&self.options), Ok) {
            Ok(conn) => conn,
            Err(error) => return (read.run)(Err(error)),
        };
        sqlite(&mut conn).set_current(Some(Arc::clone(&read.call)));
        (read.run)(Ok(&mut conn));
        sqlite(&mut conn).set_current(None);
        let is_usable = match sqlite(&mut conn).take_failure() {
            None | Some(Failure::Recoverable) => true,
            Some(Failure::Fatal { breaks_connection, .. }) => !breaks_connection,
        };
        self.conn = Some(conn).filter(|_| is_usable);
    }

    /// Closes the connection. Closing the last connection to a file deletes its write-ahead log.
    fn close(self, closed: oneshot::Sender<()>) {
        drop(self.conn);
        // The caller may be gone.
        _ = closed.send(());
    }

    /// Begins or ends a transaction, and reports whether that succeeded. Does nothing if the connection is not open,
    /// because reads do not need a transaction.
    fn control(&mut self, sql: &'static str) -> bool {
        let Some(conn) = &mut self.conn else { return false };
        let succeeded = sqlite(conn).control(sql).is_ok();
        if !succeeded {
            self.conn = None;
        }
        succeeded
    }
}

/// Opens a connection whose calls are stopped at their deadline, and when they are abandoned.
pub(super) fn open(options: &OpenOptions) -> Result<Conn, Error> {
    let conn = options.open()?;
    conn.make_interruptible()?;
    Ok(Conn::new(Kind::Sqlite(Box::new(conn))))
}

fn sqlite(conn: &mut Conn) -> &mut SqliteConn {
    match &mut conn.kind {
        Kind::Sqlite(conn) => conn,
        Kind::Postgres(_) => unreachable!("a SQLite reader has a SQLite connection"),
    }
}

/// Executes point reads until the queue is closed. They take less than 10 µs each, because the few pages that they
/// read are mostly in memory; waking a thread would take longer. Reads that are queued at the same time share a
/// transaction, because acquiring its locks takes as long as a read.
pub(super) async fn execute_point_reads(options: OpenOptions, mut queue: mpsc::Receiver<ReadJob>) {
    let mut reader = Reader::new(options);
    while let Some(job) = queue.recv().await {
        // Lets other callers that are ready to run add their reads to the batch.
        yield_now().await;
        let mut batch = vec![job];
        while batch.len() < MAX_BATCH
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        let is_in_transaction = batch.len() > 1 && reader.control("begin");
        let mut closing = None;
        for job in batch {
            match job {
                ReadJob::Read(read) => reader.execute(read),
                ReadJob::Close(closed) => closing = Some(closed),
            }
        }
        if is_in_transaction {
            reader.control("commit");
        }
        if let Some(closed) = closing {
            return reader.close(closed);
        }
    }
}

/// Starts threads that read. They share a queue, so that a read waits only if all are busy.
///
/// # Errors
/// If a thread cannot be started.
pub(super) fn start_threads(
    name: &str,
    count: u32,
    options: &OpenOptions,
    queue: mpsc::Receiver<ReadJob>,
) -> anyhow::Result<()> {
    let queue = Arc::new(Mutex::new(queue));
    for number in 1..=count {
        let (mut reader, queue) = (Reader::new(options.clone()), Arc::clone(&queue));
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let execute_reads = move || {
            while let Some(job) = next() {
                match job {
                    ReadJob::Read(read) => reader.execute(read),
                    ReadJob::Close(closed) => return reader.close(closed),
                }
            }
        };
        thread::Builder::new().name(format!("sqlite-{name}-{number}")).spawn(execute_reads)?;
    }
    Ok(())
}
