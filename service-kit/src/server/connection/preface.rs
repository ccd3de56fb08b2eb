//! Reads the first bytes of a connection, which show its protocol.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, BufWriter},
    net::TcpStream,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;

use super::{
    bare_lf::BareLfFilter,
    error_body::{ErrorBodyWriter, Explain},
    linger::LingeringConnection,
};

/// The connection preface of HTTP/2 clients (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Size of the write buffer, which merges the writes before a flush. Most HTTP/2 frames are no larger.
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

/// Detects the protocol within `limit`, so that clients that send nothing do not keep a connection open. The head of
/// each HTTP/1 request must be complete within `limit`, too, once the client has begun to send it. A write that
/// makes no progress for `stall_timeout` ends the connection, so that clients that read nothing do not keep it open
/// either. Returns the connection, and whether its protocol is HTTP/1.
///
/// # Errors
/// If the time limit is exceeded, the client disconnects, or it uses another protocol.
pub(super) async fn open(
    mut stream: TcpStream,
    protocol: Protocol,
    limit: Duration,
    stall_timeout: Duration,
) -> io::Result<(impl Stream + use<>, bool)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    timeout(limit, async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let missing = u64::try_from(PREFACE.len() - first.len()).unwrap_or(0);
            if (&mut stream).take(missing).read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if matches!(protocol, Protocol::Http2) && first != PREFACE {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        Ok(())
    })
    .await??;
    let explain = match protocol {
        Protocol::Http1And2(explain) if first != PREFACE => Some(explain),
        _ => None,
    };
    let (reader, writer) = stream.into_split();
    let mut writer = TimeoutWriter::new(writer);
    writer.set_timeout(Some(stall_timeout));
    let writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, Box::pin(writer));
    let is_http1 = explain.is_some();
    let reader = io::Cursor::new(first).chain(reader);
    let reader = BareLfFilter::new(reader, is_http1, limit);
    Ok((LingeringConnection::new(reader, ErrorBodyWriter::new(writer, explain), is_http1), is_http1))
}
