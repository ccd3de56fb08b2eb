//! Opens accepted connections: the TLS handshake, if the listener has TLS, and the first bytes, which show the protocol.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink, split},
    net::TcpStream,
    time::timeout,
};
use tokio_util::either::Either;

use super::{
    error_body::{Rejection, closing_response},
    flush::Flusher,
    preface::{self, Protocol, Stream, TimeLimits, read_first},
};
use crate::tls::{Failure, ServerTls, TlsInfo};

/// How long, and how much, is read from a client whose connection is closed. A socket that is closed with unread bytes
/// resets the connection, and the client may lose the alert or the response that explains why.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(1);
const HANG_UP_BYTES: u64 = 64 * 1024;

/// Why a connection was closed before its first request.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Its TLS.
    Tls(Failure),
    /// It sent no bytes, or those of another protocol.
    Preface(io::Error),
}

/// A connection after its handshakes.
pub(super) struct Opened<S> {
    pub(super) stream: S,
    /// The flushes of the stream.
    pub(super) flusher: Flusher,
    pub(super) is_http1: bool,
    pub(super) tls: Option<TlsInfo>,
}

/// Opens a connection within the time for handshakes.
///
/// # Errors
/// If the time is over, the client disconnects, its TLS fails, or it uses another protocol. The connection is closed then.
pub(super) async fn open(
    stream: TcpStream,
    tls: Option<&ServerTls>,
    protocol: Protocol,
    limits: TimeLimits,
) -> Result<Opened<impl Stream>, OpenError> {
    let opened = timeout(limits.handshake, async {
        let (mut reader, mut writer, info) = match tls {
            None => {
                let (reader, writer) = stream.into_split();
                (Either::Left(reader), Either::Left(writer), None)
            }
            Some(tls) => {
                let (stream, info) = handshake(stream, tls, protocol).await?;
                let (reader, writer) = split(stream);
                (Either::Right(reader), Either::Right(writer), Some(info))
            }
        };
        let first = read_first(&mut reader).await.map_err(OpenError::Preface)?;
        if first.are_tls() && info.is_none() {
            hang_up(&mut reader, &mut writer, b"").await;
            return Err(OpenError::Tls(Failure::unexpected_tls()));
        }
        Ok((first, reader, writer, info))
    });
    let opened = opened.await.unwrap_or_else(|_| Err(OpenError::Preface(io::ErrorKind::TimedOut.into())));
    let (first, reader, writer, info) = opened?;
    let (stream, flusher, is_http1) =
        preface::stream(first, (reader, writer), protocol, limits).map_err(OpenError::Preface)?;
    Ok(Opened { stream, flusher, is_http1, tls: info })
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Establishes TLS. A client that sends plaintext HTTP/1 gets a response that explains why it is not served.
async fn handshake(stream: TcpStream, tls: &ServerTls, protocol: Protocol) -> Result<(TlsStream, TlsInfo), OpenError> {
    let accepted = tls.accept(stream, matches!(protocol, Protocol::Http1And2(_))).await;
    let (failure, stream) = match accepted {
        Ok(accepted) => return Ok(accepted),
        Err(failed) => failed,
    };
    if let Some(mut stream) = stream {
        let response = match protocol {
            Protocol::Http1And2(explain) if failure.is_plaintext() => closing_response(explain(Rejection::Plaintext)),
            _ => Vec::new(),
        };
        let (mut reader, mut writer) = stream.split();
        hang_up(&mut reader, &mut writer, &response).await;
    }
    Err(OpenError::Tls(failure))
}

/// Closes a connection after some last bytes, and waits for the client to close its side.
async fn hang_up(reader: &mut (impl AsyncRead + Unpin), writer: &mut (impl AsyncWrite + Unpin), last: &[u8]) {
    let hang_up = async {
        writer.write_all(last).await?;
        writer.shutdown().await?;
        tokio::io::copy(&mut reader.take(HANG_UP_BYTES), &mut sink()).await
    };
    // However it ends, the connection is dropped.
    _ = timeout(HANG_UP_TIMEOUT, hang_up).await;
}
