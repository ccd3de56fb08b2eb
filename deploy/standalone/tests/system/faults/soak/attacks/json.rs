//! JSON that is expensive to parse, and bodies with other encodings.

use std::{io::Write, sync::atomic::AtomicUsize};

use flate2::{Compression, write::GzEncoder};

use super::{
    Attack,
    requests::exchange,
    target::{Target, pause},
};

/// These attacks by name.
pub const JSON: [(&str, Attack); 2] = [
    ("odd JSON", |target, count| Box::pin(send_odd_json(target, count))),
    ("compressed bodies", |target, count| Box::pin(send_compressed_bodies(target, count))),
];

/// The longest body that the gateway reads.
const MAX_BYTES: usize = 256 * 1024;

/// The size of what a compressed body decompresses to. Debug builds are slow to compress it.
const BOMB_BYTES: usize = if cfg!(debug_assertions) { 2 } else { 64 } * 1024 * 1024;

/// Returns a request with a body.
fn request(target: &Target, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let (token, length) = (target.token(), body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends JSON that is nested, has large numbers, duplicate keys, long arrays or many escapes, or is too long.
async fn send_odd_json(target: &Target, count: &AtomicUsize) {
    let elements = |element: &str, length: usize| vec![element; length / (element.len() + 1)].join(",");
    let bodies = [
        "[".repeat(10_000),
        "{\"task\":".repeat(8000),
        format!("{{\"title\": {}}}", "9".repeat(60_000)),
        format!("{{\"priority\": 1e{}}}", "9".repeat(60_000)),
        format!("{{{}}}", elements("\"title\":\"x\"", MAX_BYTES - 10)),
        format!("{{{}}}", (0..5000).map(|number| format!("\"x{number}\":0")).collect::<Vec<_>>().join(",")),
        format!("{{\"title\": [{}]}}", elements("0", MAX_BYTES - 20)),
        format!("[{}]", elements("0", 200_000)),
        format!("{{\"title\": \"{}\"}}", "\\u0041".repeat(10_000)),
        format!("{{\"notes\": \"{}\"}}", "\\ud83d".repeat(10_000)),
        format!("{}{{}}", " ".repeat(MAX_BYTES - 2)),
        format!("{{\"writes\": [{}]}}", elements("{}", MAX_BYTES - 20)),
        format!("{{\"writes\": [{}]}}", elements("{\"create\":{\"task\":{\"x\":0}}}", MAX_BYTES - 20)),
    ];
    for (number, body) in bodies.iter().enumerate().cycle() {
        let path = if number < 11 { "/v1/tasks" } else { "/v1/tasks:batchWrite" };
        _ = exchange(target, &request(target, path, "", body.as_bytes()), count).await;
        pause().await;
    }
}

/// Sends bodies that are compressed, once or several times, and that decompress to large ones.
async fn send_compressed_bodies(target: &Target, count: &AtomicUsize) {
    let compress = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("written to memory");
        encoder.finish().expect("written to memory")
    };
    let bomb = compress(&vec![b' '; BOMB_BYTES]);
    let nested = compress(&bomb);
    for number in 0_usize.. {
        let (coding, body) = [("gzip", &bomb), ("gzip, gzip", &nested), ("br", &bomb), ("identity", &bomb)][number % 4];
        let headers = format!("content-encoding: {coding}\r\n");
        _ = exchange(target, &request(target, "/v1/tasks", &headers, body), count).await;
        pause().await;
    }
}
