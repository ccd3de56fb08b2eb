//! Handshakes, and clients and settings that are refused.

use std::{fs, os::unix::fs::PermissionsExt};

use service_kit::server::connection::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};

use super::{Client, Files, Log, Server, error_of, get, parse};
use crate::support::{TIMEOUT, error_response};

const H2: &[&[u8]] = &[b"h2"];

#[tokio::test]
async fn requests_are_served_over_tls() {
    let files = Files::new();
    let server = Server::start(&files.server(&[])).await;
    let mut stream = server.connect(&Client::new(&files.authority)).await.expect("connected");
    for _ in 0..3 {
        assert_eq!(get(&mut stream).await.expect("served"), "nobody");
    }
}

#[tokio::test]
async fn http2_is_preferred_where_both_protocols_are_served() {
    let files = Files::new();
    let client = || Client::new(&files.authority).with_protocols(&[b"http/1.1", b"h2"]);
    let server = Server::start(&files.server(&[])).await;
    let stream = server.connect(&client()).await.expect("connected");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H2[0]));
    let server = Server::start_with(&files.server(&[]), Protocol::Http2, &[]).await;
    let stream = server.connect(&client()).await.expect("connected");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H2[0]));
}

#[tokio::test]
async fn http1_client_of_a_grpc_server_gets_an_alert() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = Server::start_with(&files.server(&[]), Protocol::Http2, &[]).await;
    let error = server.connect(&Client::new(&files.authority)).await.expect_err("refused").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    log.wait_for("supports none of the application protocols").await;
}

#[tokio::test]
async fn plaintext_request_to_a_port_with_tls_gets_a_response_that_says_so() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = Server::start(&files.server(&[])).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut response = String::new();
    timeout(TIMEOUT, stream.read_to_string(&mut response)).await.expect("closed in time").expect("no reset");
    let is_complete = response.ends_with("\r\n\r\nthis is 400") && response.contains("\r\ncontent-length: 11\r\n");
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n") && is_complete, "{response}");
    log.wait_for("the client sent plaintext to a port with TLS").await;
}

#[tokio::test]
async fn plaintext_call_to_a_grpc_port_with_tls_is_closed() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = Server::start_with(&files.server(&[]), Protocol::Http2, &[]).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut rest = Vec::new();
    timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("closed in time").expect("no reset");
    assert_eq!(rest, b"");
    log.wait_for("the client sent plaintext to a port with TLS").await;
}

#[tokio::test]
async fn tls_to_a_port_without_tls_is_closed() {
    for protocol in [Protocol::Http2, Protocol::Http1And2(error_response)] {
        let (files, mut log) = (Files::new(), Log::capture());
        let server = Server::start_with(&parse(&[]).tls, protocol, &[]).await;
        let error = server.connect(&Client::new(&files.authority)).await.expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "a clean close: {error}");
        log.wait_for("the client sent TLS to a port without TLS").await;
    }
}

#[tokio::test]
async fn failures_of_one_kind_are_logged_once_per_interval() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = Server::start_with(&files.server(&[]), Protocol::Http2, &[]).await;
    for _ in 0..20 {
        let mut stream = server.tcp().await;
        stream.write_all(b"GET").await.expect("sent");
        stream.read_to_end(&mut Vec::new()).await.expect("closed");
    }
    log.wait_for("plaintext").await;
    server.connect(&Client::new(&files.authority)).await.expect_err("refused");
    let line = log.lines.recv().await.expect("the failure of another kind is logged next");
    assert!(line.contains("application protocols"), "{line}");
}

#[tokio::test]
async fn client_with_tls_1_1_is_refused() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    let files = Files::new();
    let server = Server::start(&files.server(&[])).await;
    // A client of that time does not have the extension for signature algorithms.
    let extension = &[0, 8, 0, 13, 0, 4, 0, 2, 4, 3][..];
    for (extensions, alert) in [(&[][..], HANDSHAKE_FAILURE), (extension, PROTOCOL_VERSION)] {
        let (mut log, mut stream) = (Log::capture(), server.tcp().await);
        // Its version, a random number, no session, one cipher suite, no compression (RFC 4346, section 7.4.1.2).
        let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0], extensions].concat();
        let length = u8::try_from(hello.len()).expect("short");
        stream.write_all(&[&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()).await.expect("sent");
        let mut response = Vec::new();
        timeout(TIMEOUT, stream.read_to_end(&mut response)).await.expect("closed in time").expect("no reset");
        assert!(response.starts_with(&[21]) && response.ends_with(&[2, alert]), "a fatal alert: {response:?}");
        if alert == HANDSHAKE_FAILURE {
            log.wait_for("the client does not support TLS 1.2 or 1.3").await;
        }
    }
}

#[tokio::test]
async fn half_open_handshakes_do_not_delay_others_and_are_closed() {
    let files = Files::new();
    let limits = ["--handshake-timeout", "3s"];
    let server = Server::start_with(&files.server(&[]), Protocol::Http1And2(error_response), &limits).await;
    let client = Client::new(&files.authority);
    let mut half_open = Vec::new();
    for index in 0..1000 {
        // 64 connections per address are allowed. The first bytes are those of a long handshake.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("127.0.1.{}:0", index / 50).parse().expect("an address")).expect("a free port");
        let mut stream = socket.connect(server.address).await.expect("connected");
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("sent");
        half_open.push(stream);
    }
    for _ in 0..5 {
        assert_eq!(server.get(&client).await.expect("served"), "nobody");
    }
    for mut stream in half_open {
        let mut rest = Vec::new();
        _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("closed after the handshake timeout");
    }
    assert_eq!(server.get(&client).await.expect("served"), "nobody");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let files = Files::new();
    let error = error_of(&files.server(&["--tls-client-auth", "required"])).await;
    assert!(error.contains("--tls-client-ca-file"), "{error}");
    for incomplete in [
        &["--tls-cert-file", "x"][..],
        &["--tls-key-file", "x"],
        &["--tls-client-ca-file", "x"],
        &["--tls-cert-file", "x", "--tls-key-file", "x", "--tls-crl-file", "x"],
        &["--upstream-cert-file", "x", "--upstream-key-file", "x"],
        &["--upstream-ca-file", "x", "--upstream-cert-file", "x"],
    ] {
        let parsed = <super::Cli as clap::Parser>::try_parse_from([""].iter().chain(incomplete));
        assert!(parsed.is_err(), "{incomplete:?}");
    }
}

#[tokio::test]
async fn unusable_files_are_refused() {
    let files = Files::new();
    let good = files.authority.issue(&["localhost"]);
    let refused = async |certificate: &str, key: &str, expected: &str| {
        let mut issued = good.clone();
        (issued.certificate, issued.key) = (certificate.to_owned(), key.to_owned());
        files.write_server(&issued);
        let error = error_of(&files.server(&[])).await;
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    let other = files.authority.issue(&["localhost"]);
    refused(&good.certificate, &other.key, "has another key than").await;
    refused("", &good.key, "server.crt contains no certificate in PEM format").await;
    refused(&good.certificate, &good.certificate, "server.key: it contains no private key").await;
    refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &good.key, "server.crt").await;
    files.write_server(&good);
    let authorities = ["--tls-client-ca-file", &files.path("server.key")];
    let error = error_of(&files.server(&authorities)).await;
    assert!(error.contains("server.key contains no certificate"), "{error}");
    let lists = ["--tls-client-ca-file", &files.path("ca.pem"), "--tls-crl-file", &files.path("ca.pem")];
    let error = error_of(&files.server(&lists)).await;
    assert!(error.contains("ca.pem contains no revocation list"), "{error}");
    fs::set_permissions(files.path("server.key"), fs::Permissions::from_mode(0o644)).expect("changed");
    let error = error_of(&files.server(&[])).await;
    assert!(error.contains("mode 0644"), "{error}");
    fs::remove_file(files.path("server.key")).expect("removed");
    let error = error_of(&files.server(&[])).await;
    assert!(error.contains("cannot read") && error.contains("server.key"), "{error}");
}
