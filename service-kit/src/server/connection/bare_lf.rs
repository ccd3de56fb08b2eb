//! Rejects bare line feeds in HTTP/1 heads, which enable request smuggling.
//!
//! A recipient may accept a bare line feed as the end of a line (RFC 9112, section 2.2), and hyper does. A proxy that
//! does not accept it reads the next line as part of the same header, so that the two servers disagree on where a
//! request ends. Here only CRLF ends a line.
//!
//! The time for a head is limited here, too, because hyper does not distinguish a client that sends a head slowly from
//! a client that keeps a connection open for its next request.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

/// A byte that is invalid in a head, so that the parser rejects the request.
const INVALID_BYTE: u8 = 0;

/// How much of a line is stored: enough for the name of a relevant header and a number.
const MAX_LINE_BYTES: usize = 64;

/// Forwards reads, and replaces bare line feeds in heads by [`INVALID_BYTE`].
pub(super) struct BareLfFilter<R> {
    reader: R,
    /// `None` if nothing more is checked.
    position: Option<Position>,
    /// How long a client may take to send a head.
    head_timeout: Duration,
    /// The end of the time for the current head. Set when the client makes the server wait for the rest of it.
    head_deadline: Option<Pin<Box<Sleep>>>,
}

/// The part of a request to which the next byte belongs.
enum Position {
    Head(Head),
    /// The number of remaining bytes.
    Body(u64),
}

#[derive(Default)]
struct Head {
    /// The beginning of the current line, in lower case.
    line: Vec<u8>,
    previous: u8,
    /// Whether a line that is not empty has been read.
    is_started: bool,
    content_length: u64,
    /// Whether the connection ends after this request.
    is_last: bool,
}

impl<R> BareLfFilter<R> {
    /// Creates a filter. Over HTTP/2 it does nothing, because there are no lines.
    pub(super) fn new(reader: R, is_http1: bool, head_timeout: Duration) -> Self {
        let position = is_http1.then(|| Position::Head(Head::default()));
        Self { reader, position, head_timeout, head_deadline: None }
    }

    /// Reports whether the bytes read so far end with a complete request, so that the client is not in the middle of
    /// sending one. Always `false` after the last request of a connection, whose end is not detected.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(&self.position, Some(Position::Head(head)) if head.previous == 0)
    }

    /// Waits for the end of the time for the head, if the client has sent a part of one.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(&self.position, Some(Position::Head(head)) if head.has_content()) {
            return Poll::Pending;
        }
        let timeout = self.head_timeout;
        let deadline = self.head_deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn check(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let consumed = match &mut self.position {
                None => return,
                Some(Position::Body(remaining)) => {
                    let consumed = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                    *remaining -= consumed as u64;
                    if *remaining == 0 {
                        self.position = Some(Position::Head(Head::default()));
                    }
                    consumed
                }
                Some(Position::Head(head)) => {
                    match head.consume(&mut bytes[0]) {
                        Progress::Incomplete => {}
                        Progress::Complete => {
                            self.position = head.next_position();
                            self.head_deadline = None;
                        }
                        Progress::Invalid => self.position = None,
                    }
                    1
                }
            };
            bytes = &mut bytes[consumed..];
        }
    }
}

/// The state of a head after a byte.
enum Progress {
    Incomplete,
    Complete,
    Invalid,
}

impl Head {
    /// Reports whether it has more than the empty lines that are allowed before a request.
    fn has_content(&self) -> bool {
        self.is_started || !self.line.is_empty()
    }

    fn consume(&mut self, byte: &mut u8) -> Progress {
        let previous = mem::replace(&mut self.previous, *byte);
        match (previous, *byte) {
            (b'\r', b'\n') => {
                let line = mem::take(&mut self.line);
                // Empty lines are allowed before a request.
                if line.is_empty() && self.is_started {
                    return Progress::Complete;
                }
                self.is_started |= !line.is_empty();
                self.parse_line(&line);
            }
            (_, b'\n') => {
                *byte = INVALID_BYTE;
                return Progress::Invalid;
            }
            (_, b'\r') => {}
            (_, other) if self.line.len() < MAX_LINE_BYTES => self.line.push(other.to_ascii_lowercase()),
            _ => {}
        }
        Progress::Incomplete
    }

    /// Parses the length of the body. hyper rejects an invalid length and ends the connection.
    fn parse_line(&mut self, line: &[u8]) {
        if let Some(value) = line.strip_prefix(b"content-length:") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            self.is_last |= length.is_none();
            self.content_length = length.unwrap_or_default();
        }
        // The gateway closes the connection after a chunked request.
        self.is_last |= line.starts_with(b"transfer-encoding:");
    }

    /// Returns what follows this head, or `None` if nothing more is checked.
    fn next_position(&self) -> Option<Position> {
        match self.content_length {
            _ if self.is_last => None,
            0 => Some(Position::Head(Self::default())),
            length => Some(Position::Body(length)),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BareLfFilter<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.reader).poll_read(cx, buffer) {
            Poll::Ready(read) => read?,
            Poll::Pending => return self.poll_head_deadline(cx),
        }
        self.check(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Filters requests that are read in chunks of this size.
    fn filter(text: &str, size: usize) -> String {
        let (mut filter, mut bytes) = (BareLfFilter::new((), true, Duration::MAX), text.as_bytes().to_vec());
        bytes.chunks_mut(size).for_each(|chunk| filter.check(chunk));
        String::from_utf8(bytes).expect("valid UTF-8")
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_replaced_by_an_invalid_byte() {
        for before in ["", "\r\nGET / HTTP/1.1\r\nX: y\r\n\r\n", "POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\n\n\n\n"] {
            for head in ["GET / HTTP/1.1\nX: y\r\n\r\n", "GET / HTTP/1.1\r\nX: y\nY: z\r\n\r\n", "GET / HTTP/1.1\r\n\n"]
            {
                let at = before.len() + head.replace("\r\n", "__").find('\n').expect("a bare line feed");
                let mut expected = format!("{before}{head}");
                expected.replace_range(at..=at, "\0");
                for size in [1, 2, 7, 1000] {
                    assert_eq!(filter(&format!("{before}{head}"), size), expected);
                }
            }
        }
    }

    #[test]
    fn bodies_are_not_changed() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length:5\r\n\r\na\nb\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(filter(text, 3), text);
        }
    }
}
