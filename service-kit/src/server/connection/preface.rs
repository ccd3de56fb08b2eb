//! What a client says first.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, BufWriter},
    net::TcpStream,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;

use super::{
    explanation::{Explain, Explaining},
    line_breaks::BareLfFilter,
    linger::Lingering,
};

/// What a client sends first over HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// So many bytes go out in one part, if they are written before the next flush: the largest frame of HTTP/2, most often.
const GATHERED: usize = 16 * 1024;

/// What a listener accepts.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge, as gRPC uses it over plaintext.
    Http2,
    /// HTTP/1.1 and HTTP/2, distinguished by the first bytes. The function explains HTTP/1.1 requests that hyper refuses.
    Http1And2(Explain),
}

/// A connection whose first bytes have been looked at.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Reads what the client sends first, within the time limit, so that one who sends nothing does not keep a connection
/// for ever. Nor does one who reads nothing: a write that gets nowhere for as long as `stall` ends the connection.
///
/// # Errors
/// If the time is over, the client has gone, or it speaks something else.
pub(super) async fn open(
    mut stream: TcpStream,
    protocol: Protocol,
    limit: Duration,
    stall: Duration,
) -> io::Result<impl Stream + use<>> {
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
    writer.set_timeout(Some(stall));
    let writer = BufWriter::with_capacity(GATHERED, Box::pin(writer));
    let is_http1 = explain.is_some();
    let reader = io::Cursor::new(first).chain(reader);
    Ok(Lingering::new(BareLfFilter::new(reader, is_http1), Explaining::new(writer, explain), is_http1))
}
