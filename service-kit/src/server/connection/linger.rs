//! Closes HTTP/1 connections whose client may still be sending.
//!
//! A request may be rejected before all of it has been received. If the socket is then closed with unread bytes, the
//! kernel resets the connection, and the client may lose the response (RFC 9112, section 9.6). Therefore the writing
//! side is closed first, and the rest of the request is read and discarded.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::bare_lf::BareLfFilter;

/// How long the rest of a request is read. Clients that send for longer are disconnected.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Discarded data is read in chunks of this size.
const CHUNK_BYTES: usize = 8 * 1024;

/// A connection that is first closed for writing, and completely when the client has sent its whole request or after
/// [`LINGER_TIMEOUT`].
pub(super) struct LingeringConnection<R, W> {
    reader: BareLfFilter<R>,
    writer: W,
    /// HTTP/2 does not linger, because it stops the client with frames.
    is_http1: bool,
    /// Set once the writing side is closed.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<R: AsyncRead + Unpin, W> LingeringConnection<R, W> {
    pub(super) fn new(reader: BareLfFilter<R>, writer: W, is_http1: bool) -> Self {
        Self { reader, writer, is_http1, deadline: None }
    }

    /// Reads and discards until the client has closed its side, or has sent only complete requests.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = [MaybeUninit::uninit(); CHUNK_BYTES];
        loop {
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut self.reader).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.reader.is_between_requests() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for LingeringConnection<R, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> AsyncWrite for LingeringConnection<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deadline.is_none() {
            ready!(Pin::new(&mut self.writer).poll_shutdown(cx))?;
            if !self.is_http1 {
                return Poll::Ready(Ok(()));
            }
        }
        let is_over = self.deadline.get_or_insert_with(|| Box::pin(sleep(LINGER_TIMEOUT))).as_mut().poll(cx).is_ready();
        if is_over { Poll::Ready(Ok(())) } else { self.poll_discard(cx).map(Ok) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
        time::Instant,
    };

    use super::*;

    const INCOMPLETE_REQUEST: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{";

    type Server = LingeringConnection<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

    /// Returns both ends of a connection on which the client has sent these bytes and the server has read them.
    async fn connection(sent: &[u8], is_http1: bool) -> (DuplexStream, Server) {
        let (mut client, server) = duplex(1024);
        let (reader, writer) = split(server);
        let mut server = LingeringConnection::new(BareLfFilter::new(reader, is_http1, Duration::MAX), writer, is_http1);
        client.write_all(sent).await.expect("fits into the buffer");
        server.read_exact(&mut vec![0; sent.len()]).await.expect("all bytes");
        (client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_request_is_read_after_the_end_of_the_response() {
        let (mut client, mut server) = connection(INCOMPLETE_REQUEST, true).await;
        let send = async {
            assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0, "the end of the response");
            client.write_all(&vec![b' '; 99_999]).await.expect("the server reads");
        };
        let (closed, ()) = tokio::join!(server.shutdown(), send);
        closed.expect("a clean end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_sends_the_rest_is_cut_off() {
        let (_client, mut server) = connection(INCOMPLETE_REQUEST, true).await;
        let started = Instant::now();
        server.shutdown().await.expect("a clean end");
        assert_eq!(started.elapsed(), LINGER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_does_not_wait_after_a_complete_request_or_over_http2() {
        for (sent, is_http1) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], true), (INCOMPLETE_REQUEST, false)] {
            let (_client, mut server) = connection(sent, is_http1).await;
            let started = Instant::now();
            server.shutdown().await.expect("a clean end");
            assert_eq!(started.elapsed(), Duration::ZERO);
        }
    }
}
