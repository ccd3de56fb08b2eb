//! Reads that callers execute themselves, on a thread of the async runtime. They take less than 10 µs each, because the
//! few pages that they read are mostly in memory; waking another task or thread would take longer.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit, TryAcquireError},
    task::coop::consume_budget,
    time::{Instant, timeout_at},
};

use super::reads::{Reader, execute};
use crate::{
    db::{Conn, Error, call::Caller, conn::sqlite::OpenOptions},
    trace,
};

/// Connections for reads that callers execute themselves. A read waits only if all of them are in use.
#[derive(Debug)]
pub(super) struct InPlaceReaders {
    options: OpenOptions,
    /// The readers that are not in use. The last one is used first, because its pages are in the cache.
    idle: Mutex<Vec<Reader>>,
    /// One permit for each reader in use. Closed with the database.
    permits: Semaphore,
    /// The maximum number of readers.
    size: u32,
    /// The number of reads that wait for a permit.
    waiting: AtomicUsize,
}

impl InPlaceReaders {
    /// Creates up to `size` connections on demand. More than the runtime has threads are never in use.
    pub(super) fn new(options: OpenOptions, size: u32) -> Self {
        let permits = Semaphore::new(size as usize);
        Self { options, idle: Mutex::default(), permits, size, waiting: AtomicUsize::new(0) }
    }

    /// Returns the number of reads that wait for a connection.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Executes a read. It is stopped when it has taken `limit`, and not started after `max_wait`.
    pub(super) async fn read<T, F>(&self, max_wait: Duration, limit: Duration, work: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>>,
    {
        let waiting = trace::wait_for_connection();
        // A task that does nothing but read lets others run.
        consume_budget().await;
        let permit = self.acquire(max_wait).await?;
        drop(waiting);
        let caller = Caller::new(Instant::now() + limit);
        let mut reader = self.idle().pop().unwrap_or_else(|| Reader::new(self.options.clone()));
        let result = reader.execute(caller.call(), |conn| execute(conn?, work));
        self.idle().push(reader);
        drop(permit);
        result
    }

    async fn acquire(&self, max_wait: Duration) -> Result<SemaphorePermit<'_>, Error> {
        match self.permits.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(TryAcquireError::Closed) => Err(Error::Closed),
            Err(TryAcquireError::NoPermits) => {
                let _waiting = Waiting::new(&self.waiting);
                let acquired = timeout_at(Instant::now() + max_wait, self.permits.acquire()).await;
                acquired.map_err(|_| Error::Timeout)?.map_err(|_| Error::Closed)
            }
        }
    }

    /// Waits for the reads in progress, and closes the connections.
    pub(super) async fn close(&self) {
        // Fails if they are closed already.
        let all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        self.idle().clear();
        drop(all);
    }

    // The lock is held briefly, and never across an await.
    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a read that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
