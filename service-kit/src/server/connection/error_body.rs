//! Adds a body to the error responses that hyper itself sends over HTTP/1 when it cannot parse a request. hyper 1.12 has
//! no hook for them (hyperium/hyper#3225), so they are recognized by their bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use tokio::io::AsyncWrite;

use crate::server::request_id::REQUEST_ID;

/// Why a request is rejected before it reaches the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// hyper cannot parse the request, and chose this status code.
    Unparsable(StatusCode),
    /// The host is invalid.
    InvalidHost,
    /// Its client has reached the limit of requests in progress.
    TooManyRequests,
    /// It was sent as plaintext to a port with TLS.
    Plaintext,
}

/// Creates the response to a rejected request. It replaces the empty response of hyper.
pub type Explain = fn(Rejection) -> Response<Bytes>;

/// A header line of responses without a body.
const ZERO_LENGTH: &str = "content-length: 0\r\n";

/// Forwards writes, and replaces the error responses of hyper. It does not support vectored writes: with them, hyper
/// does not merge its slices, and a response of a few hundred bytes is sent in two parts.
pub(super) struct ErrorBodyWriter<W> {
    writer: W,
    /// `None` leaves the responses unchanged.
    explain: Option<Explain>,
    /// The part of a replacement that has not been written yet.
    replacement: Bytes,
}

impl<W: AsyncWrite + Unpin> ErrorBodyWriter<W> {
    pub(super) fn new(writer: W, explain: Option<Explain>) -> Self {
        Self { writer, explain, replacement: Bytes::new() }
    }

    fn poll_write_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.replacement))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.replacement.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the replacement if `head` is an error response of hyper: it has no body, and lacks the request id that all
/// our responses have. Our own bodies do not end with an empty line, because JSON contains no CRLF.
fn error_with_body(head: &[u8], explain: Explain) -> Option<Bytes> {
    let is_error = head.starts_with(b"HTTP/1.1 4") && head.ends_with(b"\r\n\r\n");
    let head = is_error.then(|| std::str::from_utf8(head).ok()).flatten()?;
    if !head.contains(ZERO_LENGTH) || head.contains(REQUEST_ID.as_str()) {
        return None;
    }
    let code = StatusCode::from_bytes(head.as_bytes().get(9..12)?).ok()?;
    let (lines, body) = header_lines(explain(Rejection::Unparsable(code)));
    let (before, after) = head.split_once(ZERO_LENGTH)?;
    Some([before.as_bytes(), &lines, after.as_bytes(), &body].concat().into())
}

/// Returns the header lines of a response, and its body.
fn header_lines(response: Response<Bytes>) -> (Vec<u8>, Bytes) {
    let (parts, body) = response.into_parts();
    let mut lines = format!("content-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in &parts.headers {
        lines.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    (lines, body)
}

/// Returns the bytes of a response over HTTP/1.1, after which the connection is closed.
pub(super) fn closing_response(response: Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let (lines, body) = header_lines(response);
    let start = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    [start.as_bytes(), &lines, b"\r\n", &body].concat()
}

impl<W: AsyncWrite + Unpin> AsyncWrite for ErrorBodyWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_replacement(cx))?;
        match self.explain.and_then(|explain| error_with_body(bytes, explain)) {
            Some(replacement) => {
                self.replacement = replacement;
                // What cannot be written now is written by the flush or the shutdown that follows.
                if let Poll::Ready(Err(error)) = self.poll_write_replacement(cx) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.writer).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_replacement(cx))?;
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_replacement(cx))?;
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
