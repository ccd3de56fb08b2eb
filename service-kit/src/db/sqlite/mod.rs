//! SQLite: connections for point reads, threads that scan, and one thread that writes. Concurrent writes share a commit.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use futures::future::BoxFuture;
use metrics::Histogram;
use sqlx::migrate::Migrator;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{Conn, Error, Migrate, ReadKind, call::Caller};
use super::{PoolArgs, conn::sqlite::OpenOptions};
use crate::{ops::as_gauge, trace};

pub(super) mod files;
mod in_place;
mod reads;
pub(super) mod setup;
mod writes;

use in_place::InPlaceReaders;
use reads::{Read, ReadJob, execute, start_threads};
pub(super) use writes::WriteKind;
use writes::{Executed, Job, Write, commit_in_batches};

/// Size of the page cache of each connection; SQLite expects KiB as a negative number. Twice the default, because the
/// writer needs the pages of all indexes, and a scan those of all rows of an owner.
const CACHE_SIZE: &str = "-4000";

/// Size of the write-ahead log, in pages of 4 KiB, at which the writer copies it into the file. A page that has changed
/// many times is copied once: with the default of 1000, a fifth of the time of writes was spent on copies.
const CHECKPOINT_PAGES: &str = "8000";

/// Capacity of each queue. When a queue is full, further callers wait until their deadline.
const QUEUE_SIZE: usize = 1024;

/// How long a read may block a thread of the async runtime before it is executed as a scan.
const SHORT_READ_LIMIT: Duration = Duration::from_micros(500);

/// The queues of the threads that use a file. The threads end when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    /// The connections for reads that callers execute themselves. The revocation feed has none, and uses its queue.
    in_place: Option<Arc<InPlaceReaders>>,
    scans: mpsc::Sender<ReadJob>,
    /// The queue of the revocation feed, so that its reads do not wait behind those of calls.
    feed: mpsc::Sender<ReadJob>,
    /// Number of threads that scan.
    scan_threads: u32,
    long_searches: mpsc::Sender<ReadJob>,
    /// Number of threads for long searches.
    search_threads: u32,
    writes: mpsc::Sender<Job>,
    /// The metric of the number of writes that share a commit, once the service is known.
    commit_size: Arc<OnceLock<Histogram>>,
    /// How long a call may take.
    limit: Duration,
}

impl Sqlite {
    pub(super) async fn open(
        path: &Path,
        migrations: &Migrator,
        migrate: Migrate,
        args: &PoolArgs,
    ) -> anyhow::Result<Self> {
        let limit = args.database_timeout;
        _ = setup::prepare(path, migrations, migrate, limit).await?;
        let options = OpenOptions::new(path, limit).pragma("cache_size", CACHE_SIZE);
        let reading = options.clone().pragma("query_only", "on");
        let scan_threads = args.database_connections.min(cores());
        let in_place = Some(Arc::new(InPlaceReaders::new(reading.clone(), scan_threads)));
        let (scans, queue) = mpsc::channel(QUEUE_SIZE);
        start_threads("scan", scan_threads, &reading, queue)?;
        let (long_searches, queue) = mpsc::channel(QUEUE_SIZE);
        // Half of the cores remain for other calls.
        let search_threads = (scan_threads / 2).max(1);
        start_threads("search", search_threads, &reading, queue)?;
        let (feed, queue) = mpsc::channel(QUEUE_SIZE);
        start_threads("feed", 1, &reading, queue)?;
        let writing = options.pragma("synchronous", "full").pragma("foreign_keys", "on");
        let writing = writing.pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let (writes, queue) = mpsc::channel(QUEUE_SIZE);
        let commit_size = Arc::<OnceLock<Histogram>>::default();
        let recorded_size = Arc::clone(&commit_size);
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || commit_in_batches(&writing, limit, queue, &recorded_size))?;
        Ok(Self { in_place, scans, feed, scan_threads, long_searches, search_threads, writes, commit_size, limit })
    }

    /// Sets the metrics of the queues.
    pub(super) fn record_metrics(&self, service: &'static str) {
        let waiting = |queue, count| {
            metrics::gauge!("taskey_database_waiting_calls", "service" => service, "queue" => queue)
                .set(as_gauge(count));
        };
        waiting("points", self.in_place.as_ref().map_or(0, |readers| readers.waiting()));
        for (name, queue) in [("scans", &self.scans), ("searches", &self.long_searches), ("feed", &self.feed)] {
            waiting(name, queue.max_capacity() - queue.capacity());
        }
        waiting("writes", self.writes.max_capacity() - self.writes.capacity());
        let commit_size = || metrics::histogram!("taskey_database_commit_writes", "service" => service);
        self.commit_size.get_or_init(commit_size);
    }

    pub(super) fn max_long_searches(&self) -> usize {
        self.search_threads as usize
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.limit
    }

    /// Returns a handle for the revocation feed, whose reads do not wait behind others.
    pub(super) fn for_feed(&self) -> Self {
        Self { in_place: None, scans: self.feed.clone(), ..self.clone() }
    }

    /// Executes a read. It is stopped at its deadline, and when the future is dropped.
    pub(super) async fn read<T, F>(&self, kind: ReadKind, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        match (&self.in_place, kind) {
            (Some(readers), ReadKind::Point) => readers.read(self.limit, self.limit, work).await,
            (_, ReadKind::LongSearch) => self.read_in_queue(&self.long_searches, work).await,
            _ => self.read_in_queue(&self.scans, work).await,
        }
    }

    /// Executes a read that is expected to be short like a point read. If it takes longer than [`SHORT_READ_LIMIT`], it
    /// is stopped, and executed again as a scan.
    pub(super) async fn read_short<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Clone + Send + 'static,
    {
        if let Some(readers) = &self.in_place {
            let read = readers.read(self.limit, SHORT_READ_LIMIT, work.clone()).await;
            if !read.as_ref().is_err_and(Error::is_interrupted) {
                return read;
            }
        }
        self.read(ReadKind::Scan, work).await
    }

    /// Executes a read on a thread.
    async fn read_in_queue<T, F>(&self, queue: &mpsc::Sender<ReadJob>, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let deadline = Instant::now() + self.limit;
        let caller = Caller::new(deadline);
        let (sender, receiver) = oneshot::channel();
        let (context, waiting) = (trace::current(), trace::wait_for_connection());
        let run = reads::as_run(move |conn| {
            drop(waiting);
            let _entered = trace::enter(context);
            let result = conn.and_then(|conn| execute(conn, work));
            // The caller may be gone.
            _ = sender.send(result);
        });
        let executed = async {
            queue.send(ReadJob::Read(Read { call: caller.call(), run })).await.map_err(|_| Error::Closed)?;
            receiver.await.unwrap_or(Err(Error::Closed))
        };
        timeout_at(deadline, executed).await.unwrap_or(Err(Error::Timeout))
    }

    /// Executes a write and returns after the commit. A write that has not started at its deadline, or when the future
    /// is dropped, is not executed; one that has started is finished.
    pub(super) async fn write<T, E, F>(&self, kind: WriteKind, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let deadline = Instant::now() + self.limit;
        let caller = Caller::new(deadline);
        let (sender, mut receiver) = oneshot::channel();
        let (context, waiting) = (trace::current(), trace::wait_for_connection());
        let run = writes::as_run(move |conn| {
            drop(waiting);
            let _entered = trace::enter(context);
            let result = execute(conn, work).and_then(|value| conn.check_statements().map(|()| value).map_err(E::from));
            let succeeded = result.is_ok();
            let span = trace::commit(conn.engine().name());
            let acknowledge = move |committed: Result<(), String>| {
                let committed = span.observe(committed);
                // If the commit failed, an error of this write may be due to other writes of the transaction.
                let outcome = committed.map_err(|reason| Error::NotCommitted(reason).into()).and(result);
                // The caller may be gone.
                _ = sender.send(outcome);
            };
            Executed { succeeded, acknowledge: Box::new(acknowledge) }
        });
        let queued = self.writes.send(Job::Write(Write { kind, call: caller.call(), run }));
        timeout_at(deadline, queued).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Closed)?;
        let outcome = match timeout_at(deadline, &mut receiver).await {
            Ok(outcome) => outcome,
            Err(_) if caller.abandon() => return Err(Error::Timeout.into()),
            // The write is being executed, and ends soon.
            Err(_) => receiver.await,
        };
        outcome.unwrap_or_else(|_| Err(Error::NotCommitted("the write was not executed".to_owned()).into()))
    }

    /// Waits until the queued calls are executed, and closes the connections.
    pub(super) async fn close(&self) {
        // Sending and receiving fail if the database is already closed.
        let (sender, receiver) = oneshot::channel();
        _ = self.writes.send(Job::Close(sender)).await;
        _ = receiver.await;
        let scans = (0..self.scan_threads).map(|_| &self.scans);
        let searches = (0..self.search_threads).map(|_| &self.long_searches);
        for queue in scans.chain(searches).chain([&self.feed]) {
            let (sender, receiver) = oneshot::channel();
            _ = queue.send(ReadJob::Close(sender)).await;
            _ = receiver.await;
        }
        if let Some(readers) = &self.in_place {
            readers.close().await;
        }
    }
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}
