//! Connections end at their maximum age, without an effect on calls.

use service_kit::server::connection::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{PREFACE, Server, frame, read_frame, wait_until_closed};
use crate::support::TIMEOUT;

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Sends a request over HTTP/1, and returns the head of the response.
async fn request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a response"));
        }
    };
    timeout(TIMEOUT, read).await.expect("a response in time");
    String::from_utf8(head).expect("UTF-8")
}

#[tokio::test]
async fn old_http2_connection_receives_goaway() {
    let server = Server::start(Protocol::Http2, &["--max-connection-age", "100ms"]).await;
    let mut stream = server.connect().await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.expect("written");
    let goaway = read_frame(&mut stream, GOAWAY, 0).await;
    // The first GOAWAY refuses no stream, so that calls on their way are served (RFC 9113, section 6.8).
    assert_eq!(goaway[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
}

#[tokio::test]
async fn old_http1_connection_is_closed_after_its_next_response() {
    let server = Server::http1(&["--max-connection-age", "1s", "--max-connection-age-grace", "60s"]).await;
    let mut stream = server.connect().await;
    assert!(!request(&mut stream).await.contains("connection: close"));
    while !request(&mut stream).await.contains("connection: close") {}
    wait_until_closed(&mut stream).await;
}

#[tokio::test]
async fn idle_http1_connection_is_closed_after_the_grace_period() {
    let server = Server::http1(&["--max-connection-age", "1s", "--max-connection-age-grace", "50ms"]).await;
    let mut stream = server.connect().await;
    request(&mut stream).await;
    wait_until_closed(&mut stream).await;
}

#[tokio::test]
async fn connection_with_a_call_that_never_ends_is_closed() {
    let mut server = Server::http1(&["--max-connection-age", "1s", "--max-connection-age-grace", "50ms"]).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert_eq!(server.requests.recv().await.as_deref(), Some("/hang"));
    let mut rest = Vec::new();
    // After five more seconds.
    timeout(2 * TIMEOUT, stream.read_to_end(&mut rest)).await.expect("closed in time").expect("no reset");
    assert_eq!(rest, b"");
}
