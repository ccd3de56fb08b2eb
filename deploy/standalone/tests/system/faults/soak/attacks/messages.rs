//! gRPC messages that are larger than announced, incomplete or compressed, and odd deadlines.

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use prost_reflect::prost::encode_length_delimiter;
use taskey_proto::task::v1::{Task, UpdateTaskRequest, task_service_client::TaskServiceClient};
use tokio::time::timeout;

use super::{
    Attack,
    http2::Connection,
    raw::{
        CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Rpc, call_headers, field, flood, frame, stream_id,
    },
    target::{Target, pause},
};
use crate::process::bearer;

/// These attacks by name.
pub const MESSAGES: [(&str, Attack); 6] = [
    ("messages of 4 GiB", |target, count| Box::pin(announce_huge_messages(target, count))),
    ("compressed messages", |target, count| Box::pin(send_compressed_messages(target, count))),
    ("empty elements", |target, count| Box::pin(send_empty_elements(target, count))),
    ("long lists", |target, count| Box::pin(send_long_lists(target, count))),
    ("half messages", |target, count| Box::pin(reset_half_messages(target, count))),
    ("odd deadlines", |target, count| Box::pin(send_odd_deadlines(target, count))),
];

/// Calls that are begun at a time.
const CALLS: usize = if cfg!(debug_assertions) { 1 } else { 4 };

/// The largest message.
const MAX_BYTES: usize = 256 * 1024;

/// Calls at the same time, per program. Debug builds are slow to decode them.
const ELEMENT_CALLS: usize = if cfg!(debug_assertions) { 4 } else { 16 };

/// The size of what a compressed message decompresses to. Debug builds are slow to compress it.
const BOMB_BYTES: usize = if cfg!(debug_assertions) { 2 } else { 64 } * 1024 * 1024;

/// Returns the frames of a call whose request is complete or not.
fn call(rpc: Rpc, stream: u32, headers: &[Vec<u8>], body: &[u8], is_complete: bool) -> Vec<u8> {
    let headers = [call_headers(rpc, "x"), headers.concat()].concat();
    let mut frames = frame(HEADERS, END_HEADERS, stream, &headers);
    let chunks = body.chunks(16_000).flat_map(|chunk| frame(DATA, 0, stream, chunk));
    frames.extend(chunks);
    if is_complete {
        frames.extend(frame(DATA, END_STREAM, stream, &[]));
    }
    frames
}

/// Announces a message of 4 GiB, and sends it byte by byte.
async fn announce_huge_messages(target: &Target, count: &AtomicUsize) {
    let first =
        |rpc| (0..50).flat_map(|number| call(rpc, stream_id(number), &[], &[0, 255, 255, 255, 255], false)).collect();
    let bytes = |_, _| (0..50).flat_map(|number| frame(DATA, 0, stream_id(number), b"x")).collect();
    flood(target, count, first, bytes).await;
}

/// Sends messages that are compressed without an encoding, have an unknown encoding, or decompress to a large one.
async fn send_compressed_messages(target: &Target, count: &AtomicUsize) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; BOMB_BYTES]).expect("written to memory");
    let bomb = encoder.finish().expect("written to memory");
    let message = |flag: u8, body: &[u8]| {
        let length = u32::try_from(body.len()).expect("a short message").to_be_bytes();
        [&[flag], &length[..], body].concat()
    };
    let (bomb, garbage) = (message(1, &bomb), message(1, &[0xff; 100]));
    let frames = |rpc, number: usize| {
        let stream = stream_id(number);
        match number % 4 {
            0 => call(rpc, stream, &[], &garbage, true),
            1 => call(rpc, stream, &[field("grpc-encoding", "snappy")], &garbage, true),
            2 => call(rpc, stream, &[field("grpc-encoding", "gzip")], &garbage, true),
            // It is larger than the windows of HTTP/2, so the next one has a new connection.
            _ => call(rpc, stream, &[field("grpc-encoding", "gzip")], &bomb, true),
        }
    };
    flood(target, count, |_| Vec::new(), frames).await;
}

/// Writes batches of as many empty elements as a message may contain. Each has two bytes, but needs hundreds of bytes
/// in memory.
async fn send_empty_elements(target: &Target, count: &AtomicUsize) {
    send_all(target, count, &[("BatchWriteTasks", [0x0a, 0].repeat(MAX_BYTES / 2))]).await;
}

/// Creates tasks with thousands of labels, and updates tasks with field masks of thousands of paths.
async fn send_long_lists(target: &Target, count: &AtomicUsize) {
    let labels = (0..30_000).flat_map(|label| [&[0x92, 1, 4][..], format!("{label:04x}").as_bytes()].concat());
    let paths = b"\x0a\x05title".repeat(35_000);
    let field = |tag: u8, value: Vec<u8>| {
        let mut bytes = vec![tag];
        encode_length_delimiter(value.len(), &mut bytes).expect("written to memory");
        [bytes, value].concat()
    };
    let (create, update) = (field(0x0a, labels.collect()), field(0x12, paths));
    send_all(target, count, &[("CreateTask", create), ("UpdateTask", update)]).await;
}

/// Sends messages to these methods of task-service, directly and through the gateway.
async fn send_all(target: &Target, count: &AtomicUsize, messages: &[(&str, Vec<u8>)]) {
    let (token, addresses) = (target.token(), &target.addresses);
    let requests = messages.iter().map(|(method, message)| {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let path = format!("/taskey.task.v1.TaskService/{method}");
        (path, Bytes::from([&[0], &length[..], message].concat()))
    });
    let requests: Vec<_> = requests.collect();
    let send = async |address| {
        let Some(connection) = Connection::open(address, 1 << 16).await else { return };
        let send_one = async || {
            for (path, body) in requests.iter().cycle() {
                let request = connection.grpc(path, &token, Full::new(body.clone()).boxed());
                _ = connection.sender.clone().send_request(request).await;
                count.fetch_add(1, Ordering::Relaxed);
                pause().await;
            }
        };
        join_all((0..ELEMENT_CALLS).map(|_| send_one())).await;
    };
    join_all([addresses.gateway, addresses.task[0]].map(send)).await;
}

/// Resets calls or ends their requests in the middle of a message, with or without trailers.
async fn reset_half_messages(target: &Target, count: &AtomicUsize) {
    let half = [&[0, 0, 0, 16, 0][..], &[b'x'; 2048]].concat();
    let frames = |rpc, number: usize| {
        let streams = (0..CALLS).map(|index| stream_id(CALLS * number + index));
        let end = |stream| match number % 3 {
            0 => frame(RST_STREAM, 0, stream, &CANCEL),
            1 => frame(DATA, END_STREAM, stream, &[]),
            _ => frame(HEADERS, END_HEADERS | END_STREAM, stream, &field("x-trailer", &"x".repeat(8000))),
        };
        streams.flat_map(|stream| [call(rpc, stream, &[], &half, false), end(stream)]).flatten().collect()
    };
    flood(target, count, |_| Vec::new(), frames).await;
}

/// Updates a task with deadlines that end at once, are longer than any call, or are invalid.
async fn send_odd_deadlines(target: &Target, count: &AtomicUsize) {
    let deadlines = ["1n", "0S", "99999999H", "100u", "3m", "-1S", "1", "", "999999999S", "1e3S"];
    let token = target.token();
    let call = async |channel| {
        let mut client = TaskServiceClient::new(channel);
        for deadline in deadlines.iter().cycle() {
            let (id, title) = (target.parent_id.clone(), format!("deadline {deadline}"));
            let task = Some(Task { id, title, ..Task::default() });
            let mut request = bearer(&token, UpdateTaskRequest { task, ..UpdateTaskRequest::default() });
            request.metadata_mut().insert("grpc-timeout", deadline.parse().expect("ASCII"));
            _ = timeout(Duration::from_secs(1), client.update_task(request)).await;
            count.fetch_add(1, Ordering::Relaxed);
            pause().await;
        }
    };
    join_all([target.gateway(), target.task()].map(call)).await;
}
