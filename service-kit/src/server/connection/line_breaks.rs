//! Line breaks of HTTP/1 that servers on the way may read differently.
//!
//! A line may end with a bare line feed if its reader likes (RFC 9112, section 2.2), and hyper does. For a proxy that
//! does not, what follows is still the same header, so two servers see two requests in one. Here only CRLF ends a line.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// A byte that is invalid in a head, so that the parser refuses the request.
const NOWHERE: u8 = 0;

/// The longest line of which anything matters: a name of a header and a number.
const LINE_BYTES: usize = 64;

/// Reads what is read, but for bare line feeds in heads, which become something that is refused.
pub(super) struct BareLfFilter<R> {
    reader: R,
    place: Option<Place>,
}

/// Where in a request the next byte belongs.
enum Place {
    Head(Head),
    /// The number of bytes that are left.
    Body(u64),
}

#[derive(Default)]
struct Head {
    /// The beginning of the line.
    line: Vec<u8>,
    last: u8,
    is_begun: bool,
    body: u64,
    /// What comes after this head is nobody's next request: the connection ends with it.
    is_last: bool,
}

impl<R> BareLfFilter<R> {
    /// Over HTTP/2 there are no lines.
    pub(super) fn new(reader: R, is_http1: bool) -> Self {
        Self { reader, place: is_http1.then(|| Place::Head(Head::default())) }
    }

    /// Whether what was read ends where a request does, so that the client is not in the middle of sending one. It is
    /// not known after a request that is the last.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(&self.place, Some(Place::Head(head)) if head.last == 0)
    }

    fn check(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.place {
                None => return,
                Some(Place::Body(left)) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.place = Some(Place::Head(Head::default()));
                    }
                    taken
                }
                Some(Place::Head(head)) => {
                    match head.take(&mut bytes[0]) {
                        Taken::More => {}
                        Taken::Ended => self.place = head.next(),
                        Taken::Refused => self.place = None,
                    }
                    1
                }
            };
            bytes = &mut bytes[taken..];
        }
    }
}

enum Taken {
    More,
    Ended,
    Refused,
}

impl Head {
    fn take(&mut self, byte: &mut u8) -> Taken {
        let last = mem::replace(&mut self.last, *byte);
        match (last, *byte) {
            (b'\r', b'\n') => {
                let line = mem::take(&mut self.line);
                // Empty lines may come before a request.
                if line.is_empty() && self.is_begun {
                    return Taken::Ended;
                }
                self.is_begun |= !line.is_empty();
                self.read(&line);
            }
            (_, b'\n') => {
                *byte = NOWHERE;
                return Taken::Refused;
            }
            (_, b'\r') => {}
            (_, other) if self.line.len() < LINE_BYTES => self.line.push(other.to_ascii_lowercase()),
            _ => {}
        }
        Taken::More
    }

    /// What a line says of the body. What cannot be read here is refused by hyper, and ends the connection.
    fn read(&mut self, line: &[u8]) {
        if let Some(value) = line.strip_prefix(b"content-length:") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            self.is_last |= length.is_none();
            self.body = length.unwrap_or_default();
        }
        // After chunks the gateway reads nothing more.
        self.is_last |= line.starts_with(b"transfer-encoding:");
    }

    /// What follows this head; none if that is nobody's concern.
    fn next(&self) -> Option<Place> {
        match self.body {
            _ if self.is_last => None,
            0 => Some(Place::Head(Self::default())),
            body => Some(Place::Body(body)),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BareLfFilter<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buffer))?;
        self.check(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of requests that come in pieces of this size.
    fn read(text: &str, size: usize) -> String {
        let (mut lines, mut bytes) = (BareLfFilter::new((), true), text.as_bytes().to_vec());
        bytes.chunks_mut(size).for_each(|piece| lines.check(piece));
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_bare_line_feed_in_a_head_becomes_what_is_refused() {
        for before in ["", "\r\nGET / HTTP/1.1\r\nX: y\r\n\r\n", "POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\n\n\n\n"] {
            for head in ["GET / HTTP/1.1\nX: y\r\n\r\n", "GET / HTTP/1.1\r\nX: y\nY: z\r\n\r\n", "GET / HTTP/1.1\r\n\n"]
            {
                let at = before.len() + head.replace("\r\n", "__").find('\n').expect("one");
                let mut expected = format!("{before}{head}");
                expected.replace_range(at..=at, "\0");
                for size in [1, 2, 7, 1000] {
                    assert_eq!(read(&format!("{before}{head}"), size), expected);
                }
            }
        }
    }

    #[test]
    fn whatever_stands_in_bodies_stays() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length:5\r\n\r\na\nb\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(text, 3), text);
        }
    }
}
