//! Listening sockets, with or without TLS.

use std::{io, net::SocketAddr};

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    ops::{config::LimitArgs, service_manager::PassedSockets},
    tls::ServerTls,
};

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerTls>,
    /// For callers in this process, which need no TLS.
    internal: Option<TcpListener>,
}

/// A listener for plaintext, wherever it listens.
impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None, internal: None }
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
    Ok(Listener { socket, tls, internal: None })
}

impl Listener {
    /// Accepts plaintext on another socket as well, for callers in this process. It must be bound to a loopback address.
    #[must_use]
    pub fn with_internal(self, socket: TcpListener) -> Self {
        Self { internal: Some(socket), ..self }
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
        let internal = async {
            match &self.internal {
                Some(internal) => internal.accept().await,
                None => std::future::pending().await,
            }
        };
        let (accepted, tls) = tokio::select! {
            accepted = self.socket.accept() => (accepted, self.tls.as_ref()),
            accepted = internal => (accepted, None),
        };
        let (stream, peer) = accepted?;
        Ok((stream, peer, tls.cloned()))
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
