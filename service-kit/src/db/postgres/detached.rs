//! Work that is finished even if nobody waits for it any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A future that goes on in a task of its own when it is dropped before its end. To spawn it at once would do as well, but
/// every call would then wake a second task twice, which takes a tenth of the time of a small read.
#[must_use]
pub(super) struct FinishedAnyway<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> FinishedAnyway<T> {
    /// `tasks` counts the work from now until its end.
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        Self(Some(Box::pin(tasks.track_future(work))))
    }
}

impl<T: Send + 'static> Future for FinishedAnyway<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not polled again.
        let mut work = self.0.take().expect("a future that has ended is not polled");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for FinishedAnyway<T> {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        // Without a runtime, the program is ending, and connections end with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work.map(drop).in_current_span());
        }
    }
}
