//! Refusals that hyper answers itself over HTTP/1, before there is a request: they have no body, and are given one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use tokio::io::AsyncWrite;

use crate::server::request_id::REQUEST_ID;

/// What is answered to a request that cannot be read, in the place of a bare code.
pub type Explain = fn(StatusCode) -> Response<Bytes>;

/// The head of a response without a body.
const EMPTY: &str = "content-length: 0\r\n";

/// Writes all that is written, but for such refusals. It takes no several slices at once: they would be handed over as
/// they come, and an answer of a few hundred bytes would go out in two parts.
pub(super) struct Explaining<W> {
    writer: W,
    /// None leaves them as they are.
    explain: Option<Explain>,
    /// What is left to be written in their place.
    rest: Bytes,
}

impl<W: AsyncWrite + Unpin> Explaining<W> {
    pub(super) fn new(writer: W, explain: Option<Explain>) -> Self {
        Self { writer, explain, rest: Bytes::new() }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The explained form of what hyper writes, if it is an error of its own: the head of an answer that has no body, nor
/// the request id that all our answers have. What we write has line breaks of this kind in heads alone, for JSON has
/// none.
fn explained(head: &[u8], explain: Explain) -> Option<Bytes> {
    let is_refusal = head.starts_with(b"HTTP/1.1 4") && head.ends_with(b"\r\n\r\n");
    let head = is_refusal.then(|| std::str::from_utf8(head).ok()).flatten()?;
    if !head.contains(EMPTY) || head.contains(REQUEST_ID.as_str()) {
        return None;
    }
    let code = StatusCode::from_bytes(head.as_bytes().get(9..12)?).ok()?;
    let (parts, body) = explain(code).into_parts();
    let mut lines = format!("content-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in &parts.headers {
        lines.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let (before, after) = head.split_once(EMPTY)?;
    Some([before.as_bytes(), &lines, after.as_bytes(), &body].concat().into())
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Explaining<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        match self.explain.and_then(|explain| explained(bytes, explain)) {
            Some(explanation) => {
                self.rest = explanation;
                // Whether or not all of it goes out now: a flush or an end follows.
                if let Poll::Ready(Err(error)) = self.poll_rest(cx) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.writer).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
