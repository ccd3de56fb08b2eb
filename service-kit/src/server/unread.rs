//! Resets HTTP/2 streams whose responses are not read.
//!
//! A client can keep its connection alive, but not open the flow-control window of a stream. hyper (1.12) does not poll the
//! body of the response then, so the task of the stream has a timer beside the body.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// Since when data waits for the client, in the task of a stream.
    static WAITING_SINCE: Cell<Option<Instant>>;
}

/// Records that data waits for the client from now on.
pub(super) fn start_waiting() {
    // Connections of HTTP/1 have no tasks of streams. Writes to them have a timeout instead.
    _ = WAITING_SINCE.try_with(|since| since.set(Some(Instant::now())));
}

/// Records that the client has read what waited for it.
pub(super) fn stop_waiting() {
    _ = WAITING_SINCE.try_with(|since| since.set(None));
}

/// Runs each stream in a task, and drops it when data has waited for its client too long. h2 then resets the stream and
/// discards the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamExecutor {
    /// How long data may wait.
    pub(super) timeout: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(WAITING_SINCE.scope(Cell::new(None), run(stream, self.timeout)));
    }
}

async fn run(stream: impl Future<Output = ()>, timeout: Duration) {
    let mut stream = pin!(stream);
    let mut timer = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITING_SINCE.with(Cell::get) else { return Poll::Pending };
        let deadline = since + timeout;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| tracing::debug!("reset a stream, because its client does not read"))
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Runs a stream for at most an hour, and returns how long it ran.
    async fn run_time(stream: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        let stream = WAITING_SINCE.scope(Cell::new(None), run(stream, TIMEOUT));
        _ = timeout(Duration::from_secs(3600), stream).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn stream_ends_when_data_has_waited_too_long() {
        let unread = async {
            sleep(Duration::from_secs(100)).await;
            start_waiting();
            pending::<()>().await;
        };
        assert_eq!(run_time(unread).await, Duration::from_secs(130));
    }

    #[tokio::test(start_paused = true)]
    async fn stream_without_waiting_data_continues() {
        let slow = async {
            for _ in 0..10 {
                start_waiting();
                sleep(Duration::from_secs(20)).await;
            }
            stop_waiting();
            pending::<()>().await;
        };
        assert_eq!(run_time(slow).await, Duration::from_secs(3600));
    }
}
