//! The end of an HTTP/1 connection whose client may still be sending.
//!
//! A request may be refused before all of it has come. If the socket is closed then, with bytes in it that nobody has
//! read, the kernel resets the connection, and the client loses the response on the way to it (RFC 9112, section 9.6).
//! So the writing side is closed first, and what still comes is read and thrown away.

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

use super::line_breaks::BareLfFilter;

/// How long the rest of a request is read. Clients that send for longer are disconnected.
const LIMIT: Duration = Duration::from_secs(5);

/// So much is read at once.
const CHUNK: usize = 8 * 1024;

/// A connection that is closed for writing first, and altogether when the client has sent all or [`LIMIT`] is over.
pub(super) struct Lingering<R, W> {
    reader: BareLfFilter<R>,
    writer: W,
    /// HTTP/2 says in frames that no more is wanted.
    is_http1: bool,
    /// Set once the writing side is closed.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<R: AsyncRead + Unpin, W> Lingering<R, W> {
    pub(super) fn new(reader: BareLfFilter<R>, writer: W, is_http1: bool) -> Self {
        Self { reader, writer, is_http1, deadline: None }
    }

    /// Reads until the client has no more to send: it has closed its side, or has sent whole requests alone.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
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

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Lingering<R, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> AsyncWrite for Lingering<R, W> {
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
        let is_over = self.deadline.get_or_insert_with(|| Box::pin(sleep(LIMIT))).as_mut().poll(cx).is_ready();
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

    const BEGUN: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{";

    type Server = Lingering<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

    /// The two ends of a connection on which this much was sent, and read by the server.
    async fn connection(sent: &[u8], is_http1: bool) -> (DuplexStream, Server) {
        let (mut client, server) = duplex(1024);
        let (reader, writer) = split(server);
        let mut server = Lingering::new(BareLfFilter::new(reader, is_http1), writer, is_http1);
        client.write_all(sent).await.expect("room");
        server.read_exact(&mut vec![0; sent.len()]).await.expect("all of it");
        (client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_request_is_read_after_the_end_of_the_response() {
        let (mut client, mut server) = connection(BEGUN, true).await;
        let sent = async {
            assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0, "the end of the response");
            client.write_all(&vec![b' '; 99_999]).await.expect("it is read");
        };
        let (ended, ()) = tokio::join!(server.shutdown(), sent);
        ended.expect("a clean end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_sends_the_rest_is_cut_off() {
        let (_client, mut server) = connection(BEGUN, true).await;
        let begun = Instant::now();
        server.shutdown().await.expect("a clean end");
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_sent_all_is_not_waited_for() {
        for (sent, is_http1) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], true), (BEGUN, false)] {
            let (_client, mut server) = connection(sent, is_http1).await;
            let begun = Instant::now();
            server.shutdown().await.expect("a clean end");
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }
}
