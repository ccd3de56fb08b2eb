//! HTTP/2 frames as bytes, for what no library sends.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    connections::connect,
    target::{Target, pause},
};

// Types of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

// Flags of frames.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// The setting `SETTINGS_INITIAL_WINDOW_SIZE`.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// The error code `CANCEL`.
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection is given up if a write makes no progress for this time. It remains open.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// The connections that remain open, per program.
const MAX_OPEN: usize = 16;

/// An RPC of a program.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    pub address: SocketAddr,
    pub path: &'static str,
}

/// Returns an RPC of each program.
pub fn rpcs(target: &Target) -> [Rpc; 3] {
    let addresses = &target.addresses;
    [
        Rpc { address: addresses.gateway, path: "/taskey.task.v1.TaskService/ListTasks" },
        Rpc { address: addresses.auth[0], path: "/taskey.auth.v1.AccountService/GetMe" },
        Rpc { address: addresses.task[0], path: "/taskey.task.v1.TaskService/ListTasks" },
    ]
}

/// Returns a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a `SETTINGS` frame with one setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// Returns a frame that enlarges the window of a stream, or of the connection.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Returns a header as a literal that is not indexed (RFC 7541, section 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// Returns a header as a literal that is added to the dynamic table (RFC 7541, section 6.2.1).
pub fn indexed_field(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// Returns a string without Huffman coding (RFC 7541, section 5.2).
fn string(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    if let Ok(length @ ..0x7f) = u8::try_from(text.len()) {
        encoded.push(length);
    } else {
        encoded.push(0x7f);
        let mut rest = text.len() - 0x7f;
        while rest >= 0x80 {
            encoded.push(u8::try_from(rest % 0x80).expect("7 bits") | 0x80);
            rest /= 0x80;
        }
        encoded.push(u8::try_from(rest).expect("7 bits"));
    }
    encoded.extend(text.as_bytes());
    encoded
}

/// Returns the headers of a call.
pub fn call_headers(rpc: Rpc, token: &str) -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", rpc.path),
        field(":authority", &rpc.address.to_string()),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        field("authorization", &format!("Bearer {token}")),
    ]
    .concat()
}

/// Returns the id of the client's stream with this number.
pub fn stream_id(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("few streams")
}

/// A connection whose client reads nothing.
pub struct RawConnection(TcpStream);

impl RawConnection {
    /// Connects, and sends the preface and these frames.
    pub async fn open(address: SocketAddr, frames: &[u8]) -> Option<Self> {
        let mut connection = Self(connect(address).await?);
        connection.send(&[PREFACE, frames].concat()).await.then_some(connection)
    }

    /// Reports whether the bytes were sent.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(WRITE_TIMEOUT, self.0.write_all(bytes)).await, Ok(Ok(())))
    }
}

/// Sends the first frames and then the `number`th frames, for numbers from 0, to each program at the same time. Reads
/// nothing. Connects again when a connection is closed or full.
pub async fn flood(
    target: &Target,
    count: &AtomicUsize,
    first: impl Fn(Rpc) -> Vec<u8>,
    frames: impl Fn(Rpc, usize) -> Vec<u8>,
) {
    let flood_one = async |rpc: Rpc| {
        let mut open = VecDeque::new();
        loop {
            pause().await;
            let start = [frame(SETTINGS, 0, 0, &[]), first(rpc)].concat();
            let Some(mut connection) = RawConnection::open(rpc.address, &start).await else { continue };
            let mut number = 0;
            while connection.send(&frames(rpc, number)).await {
                count.fetch_add(1, Ordering::Relaxed);
                number += 1;
                pause().await;
            }
            open.push_back(connection);
            open.drain(..open.len().saturating_sub(MAX_OPEN));
        }
    };
    join_all(rpcs(target).map(flood_one)).await;
}
