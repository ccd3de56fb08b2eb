//! Reads. Those of one row by its key are executed where they are asked for, and those of many rows on threads of their
//! own, so that a read of one row does not wait behind a scan.

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

/// How many point reads share a transaction at most: the first of them waits for the last.
const MAX_GROUP: usize = 32;

/// A read that waits for a thread.
pub(super) enum ReadJob {
    Read(Read),
    /// Close the connection, and end.
    Close(oneshot::Sender<()>),
}

/// A read that waits in a queue.
pub(super) struct Read {
    pub(super) call: Arc<Call>,
    pub(super) run: Run,
}

/// Reads, and sends the result to the caller. Without a connection it sends the error.
pub(super) type Run = Box<dyn FnOnce(Result<&mut Conn, Error>) + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(Result<&mut Conn, Error>) + Send + 'static) -> Run {
    Box::new(run)
}

/// A connection that is opened when it is needed.
struct Reader {
    options: OpenOptions,
    conn: Option<Conn>,
}

impl Reader {
    fn new(options: OpenOptions) -> Self {
        Self { options, conn: None }
    }

    /// Executes a read unless its caller is gone. A connection that has failed is not used again.
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
            None | Some(Failure::Constraint) => true,
            // A read that was stopped at its deadline leaves the connection as it was.
            Some(Failure::Fatal(_)) => read.call.is_over(),
        };
        self.conn = Some(conn).filter(|_| is_usable);
    }

    /// Closes the connection: the last one to be closed takes the write-ahead log with it.
    fn close(self, closed: oneshot::Sender<()>) {
        drop(self.conn);
        // The caller may be gone.
        _ = closed.send(());
    }

    /// Begins or ends a transaction, and returns whether that has succeeded. Reads work without one, too, and a
    /// connection that is not open yet begins none.
    fn control(&mut self, sql: &'static str) -> bool {
        let Some(conn) = &mut self.conn else { return false };
        let succeeded = sqlite(conn).control(sql).is_ok();
        if !succeeded {
            self.conn = None;
        }
        succeeded
    }
}

fn open(options: &OpenOptions) -> Result<Conn, Error> {
    let conn = options.open()?;
    conn.make_interruptible()?;
    Ok(Conn::new(Kind::Sqlite(Box::new(conn))))
}

fn sqlite(conn: &mut Conn) -> &mut SqliteConn {
    match &mut conn.kind {
        Kind::Sqlite(conn) => conn,
        Kind::Postgres(_) => unreachable!("a reader of a file has a connection to a file"),
    }
}

/// Executes reads of one row until the queue is closed. They take less than 10 µs each, since the few pages that they
/// read are mostly in memory; waking a thread would take longer. Reads that wait at the same time share a transaction,
/// since taking the locks of one takes as long as a read.
pub(super) async fn execute_point_reads(options: OpenOptions, mut queue: mpsc::Receiver<ReadJob>) {
    let mut reader = Reader::new(options);
    while let Some(job) = queue.recv().await {
        // Callers that are about to ask shall be in the group, too.
        yield_now().await;
        let mut group = vec![job];
        while group.len() < MAX_GROUP
            && let Ok(job) = queue.try_recv()
        {
            group.push(job);
        }
        let has_begun = group.len() > 1 && reader.control("begin");
        let mut closing = None;
        for job in group {
            match job {
                ReadJob::Read(read) => reader.execute(read),
                ReadJob::Close(closed) => closing = Some(closed),
            }
        }
        if has_begun {
            reader.control("commit");
        }
        if let Some(closed) = closing {
            return reader.close(closed);
        }
    }
}

/// Starts the threads that execute reads of many rows. They share a queue, so that a read waits only if all are busy.
///
/// # Errors
/// If a thread cannot be started.
pub(super) fn start_scan_threads(
    count: u32,
    options: &OpenOptions,
    queue: mpsc::Receiver<ReadJob>,
) -> anyhow::Result<()> {
    let queue = Arc::new(Mutex::new(queue));
    for number in 1..=count {
        let (mut reader, queue) = (Reader::new(options.clone()), Arc::clone(&queue));
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let execute_scans = move || {
            while let Some(job) = next() {
                match job {
                    ReadJob::Read(read) => reader.execute(read),
                    ReadJob::Close(closed) => return reader.close(closed),
                }
            }
        };
        thread::Builder::new().name(format!("sqlite-scan-{number}")).spawn(execute_scans)?;
    }
    Ok(())
}
