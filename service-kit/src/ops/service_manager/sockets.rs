//! Sockets that the service manager has opened (sd_listen_fds(3)). It keeps them open while the program restarts, so that
//! no connection is refused.

use std::net::SocketAddr;

use anyhow::Context;
use listenfd::ListenFd;
use tokio::net::TcpListener;

/// The sockets that no listener uses yet.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<PassedSocket>);

#[derive(Debug)]
struct PassedSocket {
    /// `FileDescriptorName=` of the socket unit, by default the name of the unit.
    name: String,
    address: SocketAddr,
    listener: TcpListener,
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process. The variables that describe them are removed from the
    /// environment. Call it in a tokio runtime, and before other threads use the environment.
    ///
    /// # Errors
    /// If one of them is not a TCP socket.
    pub fn from_environment() -> anyhow::Result<Self> {
        let names = sd_notify::listen_fds_with_names().context("LISTEN_FDS or LISTEN_FDNAMES is invalid")?;
        let names: Vec<_> = names.map(|(_, name)| name).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut descriptors = ListenFd::from_env();
        let sockets = names.into_iter().enumerate().map(|(index, name)| {
            let socket = descriptors.take_tcp_listener(index);
            let listener = socket.with_context(|| format!("the service manager has passed {name:?}"))?;
            let listener = listener.with_context(|| format!("the socket {name:?} was not passed"))?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            Ok(PassedSocket { address: listener.local_addr()?, name, listener })
        });
        Ok(Self(sockets.collect::<anyhow::Result<_>>()?))
    }

    /// Takes the socket for a listener: the one with its name, else the one that has its address.
    pub(crate) fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let named = self.0.iter().position(|socket| socket.name == name);
        let index = named.or_else(|| self.0.iter().position(|socket| socket.address == address))?;
        Some(self.0.swap_remove(index).listener)
    }

    /// Checks that every socket is used. A client that connects to an unused one would wait in vain.
    ///
    /// # Errors
    /// If one is not.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(PassedSocket { name, address, .. }) => anyhow::bail!(
                "the service manager has passed the socket {name:?} at {address}, which is the address of no listener; \
                 change the setting of the listener, or set FileDescriptorName= to its name, such as gateway"
            ),
        }
    }
}
