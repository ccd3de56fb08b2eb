//! Bodies of requests that do not arrive.

use std::{
    future::pending,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use hyper::Request;
use tokio::task::JoinSet;

use super::{
    http2::{Body, Connection, unfinished},
    target::Target,
};

/// The attacker's connections, and the requests on each.
const CONNECTIONS: usize = 4;
const REQUESTS: usize = 128;

/// Half of the largest message, which is 256 KiB with its prefix.
const HALF: usize = 128 * 1024 - 8;

const WINDOW: u32 = 64 * 1024;

/// Row 3: sends requests with headers and no body, without an access token.
pub async fn send_headers_only(target: &Target, count: &AtomicUsize) {
    let login =
        |connection: &Connection| connection.grpc("/taskey.auth.v1.AuthService/Login", "", unfinished(Vec::new()));
    send(target.addresses.gateway, count, login).await;
}

/// Row 11: sends half of the largest messages, without an access token.
pub async fn send_half_bodies(target: &Target, count: &AtomicUsize) {
    let login = |connection: &Connection| {
        let length = u32::try_from(2 * HALF).expect("a short message").to_be_bytes();
        let start = [&[0], &length[..], &vec![b'x'; HALF][..]].concat();
        connection.grpc("/taskey.auth.v1.AuthService/Login", "", unfinished(start))
    };
    send(target.addresses.gateway, count, login).await;
}

/// Sends all requests, and waits.
async fn send(address: SocketAddr, count: &AtomicUsize, request: impl Fn(&Connection) -> Request<Body>) {
    let mut connections = Vec::new();
    let mut requests = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let Some(connection) = Connection::open(address, WINDOW).await else { return };
        connections.push(connection);
    }
    for connection in &connections {
        for _ in 0..REQUESTS {
            let (mut sender, request) = (connection.sender.clone(), request(connection));
            requests.spawn(async move { _ = sender.send_request(request).await });
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    pending::<()>().await;
}
