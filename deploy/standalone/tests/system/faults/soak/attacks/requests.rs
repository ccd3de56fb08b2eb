//! HTTP/1.1 requests that are long, slow, or ask for what few clients ask for.

use std::{
    fmt::Write,
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Attack,
    connections::connect,
    load::create_and_delete,
    target::{Target, pause},
};

/// These attacks by name.
pub const REQUESTS: [(&str, Attack); 10] = [
    ("pipelined requests", |target, count| Box::pin(pipeline(target, count))),
    ("slow heads", |target, count| Box::pin(send_heads_slowly(target, count))),
    ("odd chunks", |target, count| Box::pin(send_odd_chunks(target, count))),
    ("bodies that wait for 100 Continue", |target, count| Box::pin(expect_continue(target, count))),
    ("long heads", |target, count| Box::pin(send_long_heads(target, count))),
    ("short watches over HTTP", |target, count| Box::pin(open_and_close_watches(target, count))),
    ("unread watches over HTTP", |target, count| Box::pin(leave_watches_unread(target, count))),
    ("upgrades", |target, count| Box::pin(upgrade(target, count))),
    ("preflights", |target, count| Box::pin(send_preflights(target, count))),
    ("files and unknown paths", |target, count| Box::pin(request_files(target, count))),
];

/// The connections that one address may have.
const CONNECTIONS: usize = 64;

/// How long an attacker waits for a response.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// Sends a request on a new connection, and reads the beginning of the response. Returns the connection.
pub async fn exchange(target: &Target, request: &[u8], count: &AtomicUsize) -> Option<TcpStream> {
    let mut connection = connect(target.addresses.gateway).await?;
    timeout(READ_TIMEOUT, connection.write_all(request)).await.ok()?.ok()?;
    count.fetch_add(1, Ordering::Relaxed);
    _ = timeout(READ_TIMEOUT, connection.read(&mut [0; 1024])).await;
    Some(connection)
}

/// Returns a request without a body.
fn head(target: &Target, method: &str, path: &str, headers: &str) -> String {
    let token = target.token();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
}

/// Sends requests one after the other on each connection, and reads no response.
async fn pipeline(target: &Target, count: &AtomicUsize) {
    let requests = ["/v1/tasks?pageSize=500", "/openapi.json", "/healthz", "/v1/me"];
    let requests: Vec<_> = requests.iter().map(|path| head(target, "GET", path, "")).collect();
    let send = async |number: usize| loop {
        pause().await;
        let Some(mut connection) = connect(target.addresses.gateway).await else { continue };
        let batch = requests[number % requests.len()].repeat(50);
        for _ in 0..20 {
            let sent = timeout(READ_TIMEOUT, connection.write_all(batch.as_bytes())).await;
            if !sent.is_ok_and(|sent| sent.is_ok()) {
                break;
            }
            count.fetch_add(50, Ordering::Relaxed);
            pause().await;
        }
        sleep(Duration::from_secs(1)).await;
    };
    join_all((0..8).map(send)).await;
}

/// Sends heads one byte at a time, on as many connections as an address may have.
async fn send_heads_slowly(target: &Target, count: &AtomicUsize) {
    let head = head(target, "GET", "/v1/me", "");
    let send = async || loop {
        pause().await;
        let Some(mut connection) = connect(target.addresses.gateway).await else { continue };
        for byte in head.as_bytes() {
            if connection.write_all(&[*byte]).await.is_err() {
                break;
            }
            count.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    };
    join_all((0..CONNECTIONS).map(|_| send())).await;
}

/// Sends chunks of one byte, with long extensions, with many trailers, and with lengths beyond any limit.
async fn send_odd_chunks(target: &Target, count: &AtomicUsize) {
    let head = head(target, "POST", "/v1/tasks", "content-type: application/json\r\ntransfer-encoding: chunked\r\n");
    let trailers = "x-trailer: y\r\n".repeat(1000);
    let bodies = [
        format!("{}0\r\n\r\n", "1\r\n \r\n".repeat(10_000)),
        format!("1;{}\r\n{{\r\n0\r\n\r\n", "x".repeat(20_000)),
        "1;x=y\r\n \r\n".repeat(5000),
        format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n"),
        "ffffffffffffffff\r\n{".to_owned(),
        "fffffffffffffffff\r\n{".to_owned(),
    ];
    // Those whose bodies are incomplete get no response.
    let send = async |body: &String| loop {
        _ = exchange(target, [head.as_str(), body].concat().as_bytes(), count).await;
        pause().await;
    };
    join_all(bodies.iter().map(send)).await;
}

/// Asks for permission to send bodies that are never sent.
async fn expect_continue(target: &Target, count: &AtomicUsize) {
    let headers = "content-type: application/json\r\ncontent-length: 60000\r\nexpect: 100-continue\r\n";
    let head = head(target, "POST", "/v1/tasks", headers);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.extend(exchange(target, head.as_bytes(), count).await);
    }
    pending::<()>().await;
}

/// Sends URLs, query parameters, cookies and headers that are longer than the limits, or nearly as long.
async fn send_long_heads(target: &Target, count: &AtomicUsize) {
    let cookies = |length: usize| {
        (0..length).fold(String::new(), |mut text, number| {
            _ = write!(text, "c{number}=x; ");
            text
        })
    };
    let parameters = |name: &str, length: usize| format!("/v1/tasks?{}", format!("{name}=1&").repeat(length));
    let heads = [
        head(target, "GET", &format!("/v1/tasks/{}", "x".repeat(7000)), ""),
        head(target, "GET", &format!("/v1/tasks/{}", "%41".repeat(2300)), ""),
        head(target, "GET", &parameters("pageSize", 700), ""),
        head(target, "GET", &parameters("%70ageSize", 600), ""),
        head(target, "GET", &parameters("a.b", 1500), ""),
        head(target, "GET", &format!("/v1/tasks?filter={}", "(".repeat(7000)), ""),
        head(target, "GET", "/v1/me", &format!("cookie: {}\r\n", cookies(1300))),
        head(target, "GET", "/v1/me", &"x: y\r\n".repeat(90)),
        head(target, "GET", "/v1/me", &"x: y\r\n".repeat(2000)),
        head(target, "GET", &format!("/{}", "x".repeat(300_000)), ""),
    ];
    for head in heads.iter().cycle() {
        _ = exchange(target, head.as_bytes(), count).await;
        pause().await;
    }
}

/// Opens watches as streams of events and of lines, and closes each when it has begun.
async fn open_and_close_watches(target: &Target, count: &AtomicUsize) {
    for accept in ["text/event-stream", "application/x-ndjson"].iter().cycle() {
        let head = head(target, "GET", "/v1/tasks:watch", &format!("accept: {accept}\r\n"));
        _ = exchange(target, head.as_bytes(), count).await;
        pause().await;
    }
}

/// Opens more watches than an account may have as streams of events, and reads none of them, while its tasks change.
async fn leave_watches_unread(target: &Target, count: &AtomicUsize) {
    let head = head(target, "GET", "/v1/tasks:watch", "accept: text/event-stream\r\n");
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS / 2 {
        open.extend(exchange(target, head.as_bytes(), count).await);
    }
    create_and_delete(target, count).await;
}

/// Asks for other protocols.
async fn upgrade(target: &Target, count: &AtomicUsize) {
    let upgrades = [
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    ];
    let mut heads = upgrades.map(|headers| head(target, "GET", "/v1/me", headers)).to_vec();
    heads.push(head(target, "CONNECT", "x:80", ""));
    for head in heads.iter().cycle() {
        if let Some(mut connection) = exchange(target, head.as_bytes(), count).await {
            // As if the other protocol had been accepted.
            _ = connection.write_all(&[0x81; 1000]).await;
        }
        pause().await;
    }
}

/// Sends preflight requests of CORS, each from another origin and for other headers.
async fn send_preflights(target: &Target, count: &AtomicUsize) {
    for number in 0.. {
        let names = format!("x-{number},").repeat(500);
        let headers = format!(
            "origin: https://{number}.example.com\r\naccess-control-request-method: PATCH\r\n\
             access-control-request-headers: {names}\r\n"
        );
        _ = exchange(target, head(target, "OPTIONS", "/v1/tasks", &headers).as_bytes(), count).await;
        pause().await;
    }
}

/// Requests files with odd ranges and long conditions, and paths and methods that do not exist.
async fn request_files(target: &Target, count: &AtomicUsize) {
    let ranges = format!("range: bytes={}0-\r\naccept-encoding: gzip\r\n", "0-,".repeat(3000));
    let tags = format!("if-none-match: {}\r\n", "W/\"x\", ".repeat(1000));
    let codings = format!("accept-encoding: {}\r\n", "gzip;q=0.1,".repeat(1000));
    for number in 0_usize.. {
        let head = match number % 6 {
            0 => head(target, "GET", "/openapi.json", &ranges),
            1 => head(target, "GET", "/openapi.json", &tags),
            2 => head(target, "GET", "/docs", &codings),
            3 => head(target, "GET", &format!("/v1/unknown{number}/{number}"), ""),
            4 => head(target, &format!("METHOD{number}"), "/v1/tasks", ""),
            _ => head(target, "GET", &format!("/v1/../..//%2e%2e/{number}"), ""),
        };
        _ = exchange(target, head.as_bytes(), count).await;
        pause().await;
    }
}
