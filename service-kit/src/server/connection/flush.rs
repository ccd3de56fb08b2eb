//! Flushes the writes of a connection once, after each poll of it.
//!
//! h2 (0.4) flushes whenever its buffer is full, which it is after every data frame. A response of two frames and trailers
//! would take three calls to send, each of which wakes the client.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// A buffered writer, and whether it must be flushed. The connection and the [`Flusher`] share it.
struct Shared<W: ?Sized> {
    flush_requested: bool,
    writer: W,
}

/// Forwards writes. A flush does nothing until [`Flusher`] executes it, so the writer must limit its buffer.
pub(super) struct DeferredFlush<W>(Arc<Mutex<Shared<W>>>);

/// Executes the flushes that a connection requested.
pub(super) struct Flusher(Arc<Mutex<Shared<dyn AsyncWrite + Send + Unpin>>>);

/// Defers the flushes of a writer.
pub(super) fn defer_flushes<W: AsyncWrite + Send + Unpin + 'static>(writer: W) -> (DeferredFlush<W>, Flusher) {
    let shared = Arc::new(Mutex::new(Shared { flush_requested: false, writer }));
    (DeferredFlush(Arc::clone(&shared)), Flusher(shared))
}

// Both sides are in one task, so nobody waits for the lock.
fn lock<W: ?Sized>(shared: &Mutex<Shared<W>>) -> MutexGuard<'_, Shared<W>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: AsyncWrite + Unpin> AsyncWrite for DeferredFlush<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut lock(&self.0).writer).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).flush_requested = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).writer).poll_shutdown(cx)
    }
}

impl Flusher {
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        if !shared.flush_requested {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut shared.writer).poll_flush(cx);
        shared.flush_requested = flushed.is_pending();
        flushed
    }
}

/// A connection whose flushes are executed after each poll.
pub(super) struct FlushedConnection<C> {
    connection: Pin<Box<C>>,
    flusher: Flusher,
}

impl<C> FlushedConnection<C> {
    pub(super) fn new(connection: C, flusher: Flusher) -> Self {
        Self { connection: Box::pin(connection), flusher }
    }

    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C, E> Future for FlushedConnection<C>
where
    C: Future<Output = Result<(), E>>,
    E: From<io::Error>,
{
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = self.connection().poll(cx);
        match (ended, self.flusher.poll_flush(cx)) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            (ended, _) => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, task::Waker};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::*;

    /// A writer that records each write.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<Vec<u8>>>>);

    impl AsyncWrite for Recorder {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().expect("not poisoned").push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Returns a connection that writes and flushes each text, and then waits.
    async fn writing(mut writer: impl AsyncWrite + Unpin, texts: &'static [&'static str]) -> io::Result<()> {
        for text in texts {
            writer.write_all(text.as_bytes()).await?;
            writer.flush().await?;
        }
        pending().await
    }

    #[test]
    fn flushes_of_one_poll_become_one_write() {
        let recorder = Recorder::default();
        let (writer, flusher) = defer_flushes(BufWriter::new(recorder.clone()));
        let mut connection = FlushedConnection::new(writing(writer, &["head, ", "data, ", "trailers"]), flusher);
        let polled = Pin::new(&mut connection).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        assert_eq!(*recorder.0.lock().expect("not poisoned"), [b"head, data, trailers"]);
    }

    #[tokio::test]
    async fn a_flush_that_waits_for_the_client_continues_when_it_reads() {
        let (mut client, server) = duplex(4);
        let (writer, flusher) = defer_flushes(BufWriter::new(server));
        let connection = tokio::spawn(FlushedConnection::new(writing(writer, &["longer than the pipe"]), flusher));
        let mut received = [0; 20];
        client.read_exact(&mut received).await.expect("read");
        assert_eq!(received, *b"longer than the pipe");
        assert!(!connection.is_finished());
    }

    #[tokio::test]
    async fn a_failed_flush_ends_the_connection() {
        let (client, server) = duplex(1024);
        drop(client);
        let (writer, flusher) = defer_flushes(BufWriter::new(server));
        let error = FlushedConnection::new(writing(writer, &["lost"]), flusher).await.expect_err("disconnected");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
