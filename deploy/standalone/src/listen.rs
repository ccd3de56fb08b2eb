//! The listeners of the services.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use service_kit::{
    ops::{config::LimitArgs, service_manager::PassedSockets},
    server::connection::{self, Listener},
    tls::ServerTls,
};
use tokio::net::TcpListener;

use crate::config::Cli;

/// The bound listeners.
pub struct Listeners {
    /// auth-service.
    pub auth: Bound,
    /// task-service.
    pub task: Bound,
    /// The gateway.
    pub gateway: Listener,
}

/// The listener of a service that others in this process call.
pub struct Bound {
    /// The listener.
    pub listener: Listener,
    /// The address at which the other services in this process reach it, without TLS.
    pub internal_address: SocketAddr,
}

impl Listeners {
    /// Binds the listeners of all services.
    ///
    /// # Errors
    /// If an address cannot be bound, or is not allowed without TLS.
    pub async fn bind(cli: &Cli, tls: Option<&ServerTls>, sockets: &mut PassedSockets) -> anyhow::Result<Self> {
        Ok(Self {
            auth: bind("auth", cli.auth_listen, &cli.limits, tls, sockets).await?,
            task: bind("task", cli.task_listen, &cli.limits, tls, sockets).await?,
            gateway: connection::bind("gateway", cli.gateway_listen, &cli.limits, tls.cloned(), sockets).await?,
        })
    }

    /// Returns the addresses at which auth-service, task-service and the gateway are reached from this process.
    ///
    /// # Errors
    /// If the system does not know an address.
    pub fn internal_addresses(&self) -> anyhow::Result<[SocketAddr; 3]> {
        Ok([self.auth.internal_address, self.task.internal_address, self.gateway.local_addr()?])
    }
}

/// Binds a service. With TLS, it has another socket, on a free port of the loopback interface, for the other services in
/// this process. They would need a certificate of their own, and the name of the host in that of the service, although
/// what they send never leaves the machine.
async fn bind(
    name: &str,
    address: SocketAddr,
    limits: &LimitArgs,
    tls: Option<&ServerTls>,
    sockets: &mut PassedSockets,
) -> anyhow::Result<Bound> {
    let listener = connection::bind(name, address, limits, tls.cloned(), sockets).await?;
    if tls.is_none() {
        let internal_address = listener.local_addr()?;
        return Ok(Bound { listener, internal_address });
    }
    let internal = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on 127.0.0.1")?;
    let internal_address = internal.local_addr()?;
    Ok(Bound { listener: listener.with_internal(internal), internal_address })
}
