//! Calls that are finished even if nobody waits for them any more.

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

/// How long a read whose caller is gone may go on before it is cancelled. Most end sooner, which costs nothing.
const CANCEL_DELAY: Duration = Duration::from_millis(50);

/// The state of a call. One task after the other uses it: the caller, then the task that finishes the call.
#[derive(Debug, Default)]
pub(super) struct CallState {
    is_abandoned: AtomicBool,
    is_cancelled: AtomicBool,
    /// The process of the server that executes the call; 0 before it starts.
    backend: AtomicI64,
}

impl CallState {
    /// Starts the call on a process of the server. Returns `false` if the caller is gone and it must not be executed.
    pub(super) fn start(&self, backend: i64) -> bool {
        self.backend.store(backend, Ordering::Relaxed);
        !self.is_abandoned.load(Ordering::Relaxed)
    }

    /// Reports whether the server was asked to cancel the call.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// A call that its caller polls. When the caller drops it, it goes on in a task of its own. To spawn it at once would do
/// as well, but every call would then wake a second task twice, which takes a tenth of the time of a small read.
#[must_use]
pub(super) struct FinishedAnyway<'p, T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    state: Arc<CallState>,
    /// Where to get a session to cancel the call, if it is a read.
    cancel_with: Option<&'p Pool>,
}

impl<'p, T: Send + 'static> FinishedAnyway<'p, T> {
    pub(super) fn new(work: BoxFuture<'static, T>, state: Arc<CallState>, cancel_with: Option<&'p Pool>) -> Self {
        Self { work: Some(work), state, cancel_with }
    }
}

impl<T: Send + 'static> Future for FinishedAnyway<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not polled again.
        let mut work = self.work.take().expect("a future that has ended is not polled");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for FinishedAnyway<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.state.is_abandoned.store(true, Ordering::Relaxed);
        // Without a runtime, the program is ending, and connections end with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, cancel_with) = (Arc::clone(&self.state), self.cancel_with.cloned());
        runtime.spawn(finish(work, state, cancel_with).in_current_span());
    }
}

/// Finishes a call that is abandoned, and cancels it if it is a read that takes long.
async fn finish<T>(mut work: BoxFuture<'static, T>, state: Arc<CallState>, cancel_with: Option<Pool>) {
    if let Some(pool) = cancel_with {
        if timeout(CANCEL_DELAY, &mut work).await.is_ok() {
            return;
        }
        state.is_cancelled.store(true, Ordering::Relaxed);
        cancel(&pool, state.backend.load(Ordering::Relaxed)).await;
    }
    work.await;
}

/// Has the server end the statement of a process. It does not matter if that fails: the statement timeout ends it, too.
async fn cancel(pool: &Pool, backend: i64) {
    let cancelled = async {
        let mut session = pool.get().await?;
        let mut conn = session.take().await?;
        let outcome = conn.execute("select pg_cancel_backend($1::int)", crate::args![backend]).await;
        session.put(conn);
        outcome
    };
    if let Err(error) = cancelled.await {
        tracing::debug!(%error, "a read whose caller is gone was not cancelled");
    }
}
