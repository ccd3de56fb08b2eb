//! Limits of connections and requests, and timeouts.

use std::{convert::Infallible, net::SocketAddr};

use http::{Request, Response};
use service_kit::{
    server::connection::{self, Protocol},
    testing::listen,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use crate::support::{TIMEOUT, error_response, is_served, parse_limits};

mod age;
mod proxied;
mod timeouts;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Server {
    address: SocketAddr,
    /// The path of each received request.
    requests: mpsc::UnboundedReceiver<String>,
    _shutdown: DropGuard,
}

impl Server {
    /// Starts a server that responds to `/`, panics on `/panic` and never responds to other paths.
    async fn start(protocol: Protocol, flags: &[&str]) -> Self {
        let limits = parse_limits(flags);
        let listener = listen(&limits, None).await;
        let address = listener.local_addr().expect("an address");
        let (received, requests) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<_>| {
            let path = request.uri().path().to_owned();
            _ = received.send(path.clone());
            async move {
                match &path[..] {
                    "/" => Ok::<_, Infallible>(Response::new(Body::empty())),
                    "/panic" => panic!("a deliberate panic"),
                    _ => std::future::pending().await,
                }
            }
        });
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { connection::serve("test", listener, protocol, &limits, service, stop).await });
        Self { address, requests, _shutdown: shutdown.drop_guard() }
    }

    async fn http1(flags: &[&str]) -> Self {
        Self::start(Protocol::Http1And2(error_response), flags).await
    }

    async fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1").await
    }

    /// Connects from a loopback address. Linux accepts every address in 127.0.0.0/8.
    async fn connect_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(address.parse().expect("an address"), 0)).expect("a free port");
        socket.connect(self.address).await.expect("connected")
    }

    /// Connects until a connection is served: the server frees a slot shortly after its connection closes.
    async fn connect_again(&self) -> TcpStream {
        let connected = async {
            loop {
                let mut stream = self.connect().await;
                if is_served(&mut stream).await {
                    return stream;
                }
            }
        };
        timeout(TIMEOUT, connected).await.expect("a slot is free again")
    }
}

/// Waits until the server closes or resets the connection.
async fn wait_until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn malformed_request_gets_an_error_response() {
    let server = Server::http1(&["--max-header-bytes", "8192"]).await;
    let too_long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(8 * 1024 - 19));
    for (request, code, line) in
        [("no request\r\n\r\n", 400, "400 Bad Request"), (&too_long, 431, "431 Request Header Fields Too Large")]
    {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        timeout(TIMEOUT, stream.read_to_string(&mut response)).await.expect("a response in time").expect("UTF-8");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{head}");
        assert!(
            head.contains("x-test: yes") && head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        assert_eq!(body, format!("this is {code}"));
    }
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let server = Server::http1(&["--max-connections-per-address", "3"]).await;
    let mut first = [server.connect().await, server.connect().await, server.connect().await];
    for stream in &mut first {
        assert!(is_served(stream).await);
    }
    // It is closed immediately, not only after the handshake timeout.
    wait_until_closed(&mut server.connect().await).await;
    assert!(!is_served(&mut server.connect().await).await);
    for stream in &mut first {
        assert!(is_served(stream).await, "earlier connections are still served");
    }
}

#[tokio::test]
async fn limit_per_address_is_64_connections_by_default() {
    let server = Server::http1(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(server.connect().await);
    }
    for stream in &mut streams {
        assert!(is_served(stream).await);
    }
    assert!(!is_served(&mut server.connect().await).await);
}

#[tokio::test]
async fn limit_applies_to_each_address_separately() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    let (mut first, mut refused) = (server.connect().await, server.connect().await);
    assert!(is_served(&mut first).await && !is_served(&mut refused).await);
    let (mut other, mut refused) = (server.connect_from("127.0.0.2").await, server.connect_from("127.0.0.2").await);
    assert!(is_served(&mut other).await && !is_served(&mut refused).await);
}

#[tokio::test]
async fn closed_connection_frees_its_slot() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    for _ in 0..3 {
        let only = server.connect_again().await;
        assert!(!is_served(&mut server.connect().await).await);
        drop(only);
    }
    server.connect_again().await;
}

#[tokio::test]
async fn connection_that_panics_frees_its_slot() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    let mut only = server.connect().await;
    only.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    wait_until_closed(&mut only).await;
    server.connect_again().await;
}

#[tokio::test]
async fn silent_connection_frees_its_slot() {
    let flags = ["--max-connections-per-address", "1", "--handshake-timeout", "50ms"];
    let server = Server::http1(&flags).await;
    let mut silent = server.connect().await;
    wait_until_closed(&mut silent).await;
    server.connect_again().await;
}

#[tokio::test]
async fn total_connections_are_limited() {
    let server = Server::http1(&["--max-connections", "2"]).await;
    let mut first = [server.connect_from("127.0.0.2").await, server.connect_from("127.0.0.3").await];
    for stream in &mut first {
        assert!(is_served(stream).await);
    }
    assert!(!is_served(&mut server.connect_from("127.0.0.4").await).await);
    drop(first);
    server.connect_again().await;
}

#[tokio::test]
async fn http1_request_to_an_http2_server_is_refused() {
    let server = Server::start(Protocol::Http2, &[]).await;
    assert!(!is_served(&mut server.connect().await).await);
}

#[tokio::test]
async fn http1_request_without_exactly_one_valid_host_is_refused() {
    let server = Server::http1(&[]).await;
    for hosts in ["", "host: x\r\nhost: x\r\n", "host: a b\r\n", "host: \r\n", "host: x/y\r\n", "host: x:y\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(format!("GET /x HTTP/1.1\r\n{hosts}\r\n").as_bytes()).await.expect("sent");
        let mut response = String::new();
        timeout(TIMEOUT, stream.read_to_string(&mut response)).await.expect("closed in time").expect("UTF-8");
        assert!(response.starts_with("HTTP/1.1 400 ") && response.ends_with("\r\n\r\nthis is 400"), "{response}");
    }
    assert!(server.requests.is_empty() && is_served(&mut server.connect().await).await);
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    assert_eq!(read_code(&mut stream).await, 200, "HTTP/1.0 requires no host");
}

/// Returns the status code of the next response, whose body has a declared length.
async fn read_code(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a response"));
        }
        let head = String::from_utf8_lossy(&head);
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0");
        stream.read_exact(&mut vec![0; length.parse().expect("a length")]).await.expect("a body");
        head.split(' ').nth(1).expect("a code").parse().expect("a number")
    };
    timeout(TIMEOUT, read).await.expect("a response in time")
}

/// Encodes an HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("the frames of a test are short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads frames until one of this type arrives for this stream, and returns its payload.
async fn read_frame(stream: &mut TcpStream, kind: u8, id: u8) -> Vec<u8> {
    let read = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("open");
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.expect("open");
            if (head[3], head[8]) == (kind, id) {
                return payload;
            }
        }
    };
    timeout(TIMEOUT, read).await.expect("the frame arrives in time")
}

#[tokio::test]
async fn concurrent_streams_per_connection_are_limited() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const END_OF_HEADERS_AND_STREAM: u8 = 5;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    // `POST http://x/x`, encoded with HPACK.
    let head = b"\x83\x86\x04\x02/x\x01\x01x";

    let mut server = Server::start(Protocol::Http2, &["--max-streams", "2"]).await;
    // A client library would respect the limit, so the frames are written by hand.
    let mut stream = server.connect().await;
    let calls = [1, 3, 5].map(|id| frame(HEADERS, END_OF_HEADERS_AND_STREAM, id, head));
    let preface = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    stream.write_all(&preface).await.expect("written");
    let settings = read_frame(&mut stream, SETTINGS, 0).await;
    let limit = settings.chunks(6).find(|setting| setting.starts_with(&MAX_CONCURRENT_STREAMS));
    assert_eq!(limit.expect("the server announces its limit")[2..], [0, 0, 0, 2]);
    let acknowledgement = frame(SETTINGS, 1, 0, b"");
    stream.write_all(&[acknowledgement, calls.concat()].concat()).await.expect("written");
    assert_eq!(read_frame(&mut stream, RST_STREAM, 5).await, REFUSED_STREAM);
    for _ in 0..2 {
        assert_eq!(server.requests.recv().await.as_deref(), Some("/x"));
    }
    assert!(server.requests.is_empty(), "the third call reached the service");
}
