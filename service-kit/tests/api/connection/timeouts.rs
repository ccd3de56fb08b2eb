//! How long clients may take, and how long idle connections are kept.

use std::time::Duration;

use service_kit::server::connection::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{PREFACE, Server, frame, read_frame, wait_until_closed};
use crate::support::{TIMEOUT, error_response, is_served};

#[tokio::test]
async fn incomplete_http2_preface_does_not_keep_a_connection_open() {
    for protocol in [Protocol::Http2, Protocol::Http1And2(error_response)] {
        let server = Server::start(protocol, &["--handshake-timeout", "50ms"]).await;
        for bytes in [&b""[..], b"P", &PREFACE[..PREFACE.len() - 1]] {
            let mut stream = server.connect().await;
            stream.write_all(bytes).await.expect("written");
            wait_until_closed(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn incomplete_request_head_does_not_keep_a_connection_open() {
    let server = Server::http1(&["--handshake-timeout", "50ms"]).await;
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST"] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.expect("written");
        wait_until_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn sending_a_head_slowly_does_not_extend_its_timeout() {
    let server = Server::http1(&["--handshake-timeout", "100ms"]).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let sending = async {
        writer.write_all(b"GET / HTTP/1.1\r\n").await.expect("written");
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            ticks.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = sending => {}
        ended = timeout(TIMEOUT, reader.read_to_end(&mut rest)) => {
            _ = ended.expect("closed in time");
        }
    }
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn idle_connection_is_kept_for_longer_than_the_handshake_timeout() {
    let server = Server::http1(&["--handshake-timeout", "50ms"]).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        assert!(is_served(&mut stream).await);
        // Nothing happens on the connection for longer than a client may take for the handshake or for a head.
        sleep(Duration::from_millis(200)).await;
    }
    // Empty lines do not begin a request (RFC 9112, section 2.2).
    stream.write_all(b"\r\n").await.expect("written");
    sleep(Duration::from_millis(200)).await;
    assert!(is_served(&mut stream).await);
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("written");
    wait_until_closed(&mut stream).await;
}

#[tokio::test]
async fn idle_connection_is_closed_after_the_idle_timeout() {
    let server = Server::http1(&["--idle-timeout", "50ms"]).await;
    let mut stream = server.connect().await;
    assert!(is_served(&mut stream).await);
    wait_until_closed(&mut stream).await;
}

#[tokio::test]
async fn idle_http2_connection_is_kept_for_longer_than_the_idle_timeout() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let flags = ["--handshake-timeout", "50ms", "--idle-timeout", "50ms"];
    for protocol in [Protocol::Http2, Protocol::Http1And2(error_response)] {
        let server = Server::start(protocol, &flags).await;
        let mut stream = server.connect().await;
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.expect("written");
        sleep(Duration::from_millis(200)).await;
        stream
            .write_all(&[frame(SETTINGS, 1, 0, b""), frame(PING, 0, 0, b"12345678")].concat())
            .await
            .expect("written");
        assert_eq!(read_frame(&mut stream, PING, 0).await, b"12345678");
    }
}

#[tokio::test]
async fn sending_the_preface_slowly_does_not_extend_the_handshake_timeout() {
    let server = Server::start(Protocol::Http2, &["--handshake-timeout", "100ms"]).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let sending = async {
        for byte in PREFACE {
            ticks.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = sending => {}
        ended = timeout(TIMEOUT, reader.read_to_end(&mut rest)) => {
            _ = ended.expect("closed in time");
        }
    }
    // The server has not sent any HTTP/2 frame, because the preface was never complete.
    assert_eq!(rest, b"");
}
