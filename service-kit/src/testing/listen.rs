//! Listeners for tests.

use std::net::Ipv4Addr;

use crate::{
    ops::{config::LimitArgs, service_manager::PassedSockets},
    server::connection::{self, Listener},
    tls::ServerTls,
};

/// Binds a free port of the loopback interface.
///
/// # Panics
/// If there is none.
pub async fn listen(limits: &LimitArgs, tls: Option<ServerTls>) -> Listener {
    let (address, mut sockets) = ((Ipv4Addr::LOCALHOST, 0).into(), PassedSockets::default());
    connection::bind("test", address, limits, tls, &mut sockets).await.expect("a free port")
}
