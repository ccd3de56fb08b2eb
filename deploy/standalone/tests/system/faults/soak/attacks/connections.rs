//! Connections that are idle, or closed at once.

use std::{
    future::pending,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use super::target::{SOURCE, Target, pause};

/// More connections than one address may have.
const CONNECTIONS: usize = 100;

pub async fn connect(address: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((SOURCE, 0).into()).ok()?;
    socket.connect(address).await.ok()
}

/// Keeps connections open on which nothing, or only a part of a request, is sent.
pub async fn keep_idle(target: &Target, count: &AtomicUsize) {
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let Some(mut connection) = connect(target.addresses.gateway).await else { continue };
        if number % 2 == 0 {
            _ = connection.write_all(b"GET /v1/tasks HTTP/1.1\r\nhost: x\r\n").await;
        }
        connections.push(connection);
        count.fetch_add(1, Ordering::Relaxed);
    }
    pending::<()>().await;
}

/// Opens and closes connections as fast as one client can.
pub async fn open_and_close(target: &Target, count: &AtomicUsize) {
    let addresses = [target.addresses.gateway, target.addresses.auth[0], target.addresses.task[0]];
    for address in addresses.into_iter().cycle() {
        _ = connect(address).await;
        count.fetch_add(1, Ordering::Relaxed);
        pause().await;
    }
}
