//! Reads the first bytes of a connection, which show its protocol.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufWriter};
use tokio_io_timeout::TimeoutWriter;

use super::{
    bare_lf::BareLfFilter,
    error_body::{ErrorBodyWriter, Explain},
    flush::{Flusher, defer_flushes},
    linger::LingeringConnection,
};
use crate::tls::HANDSHAKE_RECORD;

/// The connection preface of HTTP/2 clients (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Size of the write buffer, which merges the writes of a connection until its task waits. Most responses are no larger.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// The protocols that a listener accepts.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge, as gRPC uses it over plaintext.
    Http2,
    /// HTTP/1.1 and HTTP/2, distinguished by the first bytes. The function creates the response to HTTP/1.1 requests
    /// that hyper rejects.
    Http1And2(Explain),
}

impl Protocol {
    /// Returns how many clients share the limits of a server, so that none uses more than its part. The client of a
    /// service may be a gateway, which calls for many others.
    pub(super) fn clients(self) -> usize {
        match self {
            Self::Http2 => 2,
            Self::Http1And2(_) => 8,
        }
    }
}

/// A connection whose protocol has been detected.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    /// How long the handshakes may take, so that clients that send nothing do not keep a connection open. The head of
    /// each HTTP/1 request must be complete within this time, too, once the client has begun to send it.
    pub(super) handshake: Duration,
    /// How long a write, or the response of an HTTP/2 stream, may make no progress. Pings do not detect a client that
    /// answers them but reads nothing else, and HTTP/1 has no pings.
    pub(super) stall: Duration,
}

/// The first bytes of a connection.
pub(super) struct FirstBytes {
    bytes: Vec<u8>,
    is_http2: bool,
}

impl FirstBytes {
    /// Reports whether they begin a TLS handshake.
    pub(super) fn are_tls(&self) -> bool {
        self.bytes.first() == Some(&HANDSHAKE_RECORD)
    }
}

/// Reads the first bytes of a connection, as many as show whether they are the preface of HTTP/2.
///
/// # Errors
/// If the client disconnects.
pub(super) async fn read_first(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<FirstBytes> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        let missing = u64::try_from(PREFACE.len() - bytes.len()).unwrap_or(0);
        if reader.take(missing).read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(FirstBytes { is_http2: bytes == PREFACE, bytes })
}

/// Creates the stream of a connection with these first bytes. A write that makes no progress ends the connection, so
/// that clients that read nothing do not keep it open. Returns the stream, its flushes, and whether its protocol is
/// HTTP/1.
///
/// # Errors
/// If the client uses a protocol that the listener does not accept.
pub(super) fn stream<R, W>(
    first: FirstBytes,
    (reader, writer): (R, W),
    protocol: Protocol,
    limits: TimeLimits,
) -> io::Result<(impl Stream + use<R, W>, Flusher, bool)>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Send + 'static,
{
    let explain = match protocol {
        _ if first.is_http2 => None,
        Protocol::Http1And2(explain) => Some(explain),
        Protocol::Http2 => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut writer = TimeoutWriter::new(writer);
    writer.set_timeout(Some(limits.stall));
    let (writer, flusher) = defer_flushes(BufWriter::with_capacity(WRITE_BUFFER_BYTES, Box::pin(writer)));
    let is_http1 = explain.is_some();
    let reader = io::Cursor::new(first.bytes).chain(reader);
    let reader = BareLfFilter::new(reader, is_http1, limits.handshake);
    let stream = LingeringConnection::new(reader, ErrorBodyWriter::new(writer, explain), is_http1);
    Ok((stream, flusher, is_http1))
}
