//! Calls that are finished in a separate task if they are abandoned.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{runtime::Handle, time::timeout};
use tracing::Instrument;

use super::pool::Pool;
use crate::db::Error;

/// How long an abandoned read may continue before it is cancelled. Most reads end sooner, which saves the request.
const CANCEL_DELAY: Duration = Duration::from_millis(50);

/// Maximum duration of a cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of a call. One task at a time uses it: first the caller, then the task that finishes the call.
#[derive(Debug, Default)]
pub(super) struct CallState {
    is_abandoned: AtomicBool,
    is_cancelled: AtomicBool,
    /// The process id of the backend that executes the call; 0 before it starts.
    backend_pid: AtomicI64,
}

impl CallState {
    /// Starts the call on a backend. Returns `false` if the call was abandoned and must not be executed.
    pub(super) fn start(&self, backend_pid: i64) -> bool {
        self.backend_pid.store(backend_pid, Ordering::Relaxed);
        !self.is_abandoned.load(Ordering::Relaxed)
    }

    /// Reports whether the server was asked to cancel the call.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// A call that its caller polls. If the caller drops it, it continues in a separate task. A task for every call would
/// have the same effect, but two additional wake-ups, which take a tenth of the time of a small read.
#[must_use]
pub(super) struct DetachOnDrop<'p, T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    state: Arc<CallState>,
    /// The pool of sessions that can cancel the call, if it is a read.
    cancel_with: Option<&'p Pool>,
}

impl<'p, T: Send + 'static> DetachOnDrop<'p, T> {
    pub(super) fn new(work: BoxFuture<'static, T>, state: Arc<CallState>, cancel_with: Option<&'p Pool>) -> Self {
        Self { work: Some(work), state, cancel_with }
    }
}

impl<T: Send + 'static> Future for DetachOnDrop<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that has panicked is not polled again.
        let mut work = self.work.take().expect("a completed future is not polled again");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for DetachOnDrop<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.state.is_abandoned.store(true, Ordering::Relaxed);
        // Without a runtime, the program is exiting, which closes its connections.
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, cancel_with) = (Arc::clone(&self.state), self.cancel_with.cloned());
        runtime.spawn(finish_abandoned(work, state, cancel_with).in_current_span());
    }
}

/// Finishes an abandoned call. Cancels it if it is a read that takes longer than [`CANCEL_DELAY`].
async fn finish_abandoned<T>(mut work: BoxFuture<'static, T>, state: Arc<CallState>, cancel_with: Option<Pool>) {
    if let Some(pool) = cancel_with {
        if timeout(CANCEL_DELAY, &mut work).await.is_ok() {
            return;
        }
        state.is_cancelled.store(true, Ordering::Relaxed);
        // The work is not polled meanwhile: it would release its session, and another call on it would be cancelled.
        let backend_pid = state.backend_pid.load(Ordering::Relaxed);
        match timeout(CANCEL_TIMEOUT, cancel(&pool, backend_pid)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an abandoned read was not cancelled"),
            Err(_) => tracing::debug!("an abandoned read was not cancelled in time"),
        }
    }
    work.await;
}

/// Cancels the statement of a backend. If that fails, the statement timeout ends it. A connection without a response in
/// time is dropped.
async fn cancel(pool: &Pool, backend_pid: i64) -> Result<u64, Error> {
    let mut session = pool.get().await?;
    let mut conn = session.acquire().await?;
    let outcome = conn.execute("select pg_cancel_backend($1::int)", crate::args![backend_pid]).await;
    session.release(conn);
    outcome
}
