//! Reads on threads, so that a point read does not wait behind a scan. The reads of the revocation feed have a thread of
//! their own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use crate::db::{
    Error,
    call::Call,
    conn::sqlite::{Failure, OpenOptions, SqliteConn},
    conn::{Conn, Kind},
};

/// The error of a closure that panicked.
const PANIC: Error = Error::Bug("the closure of a database call panicked");

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

/// Runs the closure of a caller. On SQLite, its future never waits.
pub(super) fn execute<T, E, F>(conn: &mut Conn, work: F) -> Result<T, E>
where
    E: From<Error>,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>>,
{
    let run = || work(conn).now_or_never().expect("closures await only the methods of the connection");
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(PANIC.into()))
}

/// A connection that is opened on demand.
#[derive(Debug)]
pub(super) struct Reader {
    options: OpenOptions,
    conn: Option<Conn>,
}

impl Reader {
    pub(super) fn new(options: OpenOptions) -> Self {
        Self { options, conn: None }
    }

    /// Calls `run` with the connection, whose statements are stopped when `call` is cancelled. Drops the connection if a
    /// statement has failed fatally.
    pub(super) fn execute<T>(&mut self, call: Arc<Call>, run: impl FnOnce(Result<&mut Conn, Error>) -> T) -> T {
        let mut conn = match self.conn.take().map_or_else(|| open(&self.options), Ok) {
            Ok(conn) => conn,
            Err(error) => return run(Err(error)),
        };
        sqlite(&mut conn).set_current(Some(call));
        let result = run(Ok(&mut conn));
        sqlite(&mut conn).set_current(None);
        let is_usable = match sqlite(&mut conn).take_failure() {
            None | Some(Failure::Recoverable) => true,
            Some(Failure::Fatal { breaks_connection, .. }) => !breaks_connection,
        };
        self.conn = Some(conn).filter(|_| is_usable);
        result
    }

    /// Closes the connection. Closing the last connection to a file deletes its write-ahead log.
    fn close(self, closed: oneshot::Sender<()>) {
        drop(self.conn);
        // The caller may be gone.
        _ = closed.send(());
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
                    // An abandoned read is skipped.
                    ReadJob::Read(read) if !read.call.start() => {}
                    ReadJob::Read(read) => reader.execute(read.call, read.run),
                    ReadJob::Close(closed) => return reader.close(closed),
                }
            }
        };
        thread::Builder::new().name(format!("sqlite-{name}-{number}")).spawn(execute_reads)?;
    }
    Ok(())
}
