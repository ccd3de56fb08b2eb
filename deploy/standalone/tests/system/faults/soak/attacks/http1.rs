//! Requests over HTTP/1.1 that stall, are malformed, or have odd headers.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connections::connect,
    target::{Target, pause},
};

/// The connections that one address may have.
const CONNECTIONS: usize = 60;

/// Row 25: begins requests whose bodies stall.
pub async fn stall_bodies(target: &Target, count: &AtomicUsize) {
    let head =
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{";
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let Some(mut connection) = connect(target.addresses.gateway).await else { continue };
        _ = connection.write_all(head.as_bytes()).await;
        connections.push(connection);
        count.fetch_add(1, Ordering::Relaxed);
    }
    pending::<()>().await;
}

/// Rows 15, 16 and 28: sends forwarding headers and cookies with bytes that are not ASCII, and lists.
pub async fn send_odd_headers(target: &Target, count: &AtomicUsize) {
    let headers: [&[u8]; 5] = [
        b"x-forwarded-for: 127.1.1.1, \xff\xfe",
        b"x-forwarded-proto: https, http",
        b"cookie: other=\xfc; __Host-taskey_access=x",
        b"user-agent: \xfc\xff",
        b"x-forwarded-for: 127.1.1.1\r\nx-forwarded-for: unknown, [::1]:80",
    ];
    for header in headers.iter().cycle() {
        exchange(target, &[b"GET /v1/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", header, b"\r\n\r\n"], count)
            .await;
    }
}

/// Row 24: sends requests without a host, with two hosts, and with conflicting lengths.
pub async fn send_malformed_requests(target: &Target, count: &AtomicUsize) {
    let heads: [&[u8]; 5] = [
        b"GET /v1/me HTTP/1.1\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}   ",
        b"GET /\n\n",
    ];
    for head in heads.iter().cycle() {
        exchange(target, &[head], count).await;
    }
}

/// Sends a request, and reads the beginning of the response.
async fn exchange(target: &Target, request: &[&[u8]], count: &AtomicUsize) {
    if let Some(mut connection) = connect(target.addresses.gateway).await {
        _ = connection.write_all(&request.concat()).await;
        _ = connection.read(&mut [0; 1024]).await;
    }
    count.fetch_add(1, Ordering::Relaxed);
    pause().await;
}
