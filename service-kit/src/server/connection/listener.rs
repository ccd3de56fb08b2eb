//! Listening sockets, with or without TLS.

use std::{io, net::SocketAddr};

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    ops::{config::LimitArgs, service_manager::PassedSockets},
    server::in_process::InProcessChannel,
    tls::ServerTls,
};

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerTls>,
    /// For callers in this process.
    in_process: Option<InProcessChannel>,
}

/// A listener for plaintext, wherever it listens.
impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None, in_process: None }
    }
}

/// Binds an address, for TLS if `tls` is not `None`. A socket that the service manager has passed for the listener with
/// this name is used instead.
///
/// # Errors
/// If it cannot be bound, or it is not a loopback address, and neither TLS nor `--insecure-plaintext` was configured.
pub async fn bind(
    name: &str,
    address: SocketAddr,
    limits: &LimitArgs,
    tls: Option<ServerTls>,
    sockets: &mut PassedSockets,
) -> anyhow::Result<Listener> {
    raise_file_limit(limits);
    let passed = sockets.take(name, address);
    let address = passed.as_ref().map_or(Ok(address), TcpListener::local_addr)?;
    anyhow::ensure!(
        tls.is_some() || limits.insecure_plaintext || address.ip().to_canonical().is_loopback(),
        "refusing to serve plaintext on {address}, where anyone on the network can read the tokens: \
         pass --tls-cert-file and --tls-key-file, listen on 127.0.0.1:{}, or pass --insecure-plaintext",
        address.port(),
    );
    let socket = match passed {
        Some(socket) => socket,
        None => TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?,
    };
    Ok(Listener { socket, tls, in_process: None })
}

impl Listener {
    /// Serves calls of this process as well, which need neither a socket nor TLS.
    #[must_use]
    pub fn with_in_process(self, channel: InProcessChannel) -> Self {
        Self { in_process: Some(channel), ..self }
    }

    pub(super) fn in_process(&self) -> Option<&InProcessChannel> {
        self.in_process.as_ref()
    }

    /// Reports whether clients must use TLS.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the address of the socket.
    ///
    /// # Errors
    /// If the system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts the next connection. Returns it with the address of its client and its TLS.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<ServerTls>)> {
        let (stream, peer) = self.socket.accept().await?;
        Ok((stream, peer, self.tls.clone()))
    }
}

/// Raises the limit of open files. Each connection is an open file, and the default limit is often lower than the
/// maximum number of connections.
fn raise_file_limit(limits: &LimitArgs) {
    let wanted = 2 * u64::try_from(limits.max_connections).unwrap_or(u64::MAX / 2) + 1024;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed >= wanted => {}
        Ok(allowed) => tracing::warn!(allowed, wanted, "the limit of open files is too low for all connections"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}
