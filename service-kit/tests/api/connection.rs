//! Which connections a server takes, and for how long.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{Request, Response};
use service_kit::server::connection::{self, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use crate::support::{PATIENCE, explain, limits, serves};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Server {
    address: SocketAddr,
    /// The path of each request as it comes.
    requests: mpsc::UnboundedReceiver<String>,
    _shutdown: DropGuard,
}

impl Server {
    /// A server that answers `/`, panics at `/panic` and never answers anything else.
    async fn start(protocol: Protocol, flags: &[&str]) -> Self {
        let limits = limits(flags);
        let listener = connection::bind("127.0.0.1:0".parse().expect("an address"), &limits).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, requests) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<_>| {
            let path = request.uri().path().to_owned();
            _ = seen.send(path.clone());
            async move {
                match &path[..] {
                    "/" => Ok::<_, Infallible>(Response::new(Body::empty())),
                    "/panic" => panic!("as the test wants it"),
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
        Self::start(Protocol::Http1And2(explain), flags).await
    }

    async fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1").await
    }

    /// A connection from one of the addresses of this machine; all of 127.0.0.0/8 are.
    async fn connect_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(address.parse().expect("an address"), 0)).expect("a free port");
        socket.connect(self.address).await.expect("connected")
    }

    /// A new connection that is served, as one must be in a moment once another one has gone.
    async fn connect_again(&self) -> TcpStream {
        let connected = async {
            loop {
                let mut stream = self.connect().await;
                if serves(&mut stream).await {
                    return stream;
                }
            }
        };
        timeout(PATIENCE, connected).await.expect("a slot is free again")
    }
}

/// Waits until the server closes a connection. A reset is as good an end as any.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_answered_with_an_explanation() {
    let server = Server::http1(&["--max-header-bytes", "8192"]).await;
    let too_long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(8 * 1024 - 19));
    for (request, code, line) in
        [("no request\r\n\r\n", 400, "400 Bad Request"), (&too_long, 431, "431 Request Header Fields Too Large")]
    {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{head}");
        assert!(
            head.contains("x-test: yes") && head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        assert_eq!(body, format!("this is {code}"));
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let server = Server::http1(&["--max-connections-per-address", "3"]).await;
    let mut first = [server.connect().await, server.connect().await, server.connect().await];
    for stream in &mut first {
        assert!(serves(stream).await);
    }
    // It is closed at once, although it has the time of a handshake to say something.
    closed(&mut server.connect().await).await;
    assert!(!serves(&mut server.connect().await).await);
    for stream in &mut first {
        assert!(serves(stream).await, "those before it are still served");
    }
}

#[tokio::test]
async fn an_address_has_64_connections_unless_the_settings_say_otherwise() {
    let server = Server::http1(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(server.connect().await);
    }
    for stream in &mut streams {
        assert!(serves(stream).await);
    }
    assert!(!serves(&mut server.connect().await).await);
}

#[tokio::test]
async fn another_address_is_not_affected() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    let (mut first, mut refused) = (server.connect().await, server.connect().await);
    assert!(serves(&mut first).await && !serves(&mut refused).await);
    let (mut other, mut refused) = (server.connect_from("127.0.0.2").await, server.connect_from("127.0.0.2").await);
    assert!(serves(&mut other).await && !serves(&mut refused).await);
}

#[tokio::test]
async fn a_closed_connection_gives_its_slot_back() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    for _ in 0..3 {
        let only = server.connect_again().await;
        assert!(!serves(&mut server.connect().await).await);
        drop(only);
    }
    server.connect_again().await;
}

#[tokio::test]
async fn a_connection_that_panics_gives_its_slot_back() {
    let server = Server::http1(&["--max-connections-per-address", "1"]).await;
    let mut only = server.connect().await;
    only.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    closed(&mut only).await;
    server.connect_again().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_gives_its_slot_back() {
    let flags = ["--max-connections-per-address", "1", "--handshake-timeout", "50ms"];
    let server = Server::http1(&flags).await;
    let mut silent = server.connect().await;
    closed(&mut silent).await;
    server.connect_again().await;
}

#[tokio::test]
async fn there_are_so_many_connections_in_all_and_no_more() {
    let server = Server::http1(&["--max-connections", "2"]).await;
    let mut first = [server.connect_from("127.0.0.2").await, server.connect_from("127.0.0.3").await];
    for stream in &mut first {
        assert!(serves(stream).await);
    }
    assert!(!serves(&mut server.connect_from("127.0.0.4").await).await);
    drop(first);
    server.connect_again().await;
}

#[tokio::test]
async fn a_connection_that_speaks_something_else_is_closed() {
    let server = Server::start(Protocol::Http2, &[]).await;
    assert!(!serves(&mut server.connect().await).await);
}

#[tokio::test]
async fn half_a_greeting_keeps_no_connection_open() {
    for protocol in [Protocol::Http2, Protocol::Http1And2(explain)] {
        let server = Server::start(protocol, &["--handshake-timeout", "50ms"]).await;
        for said in [&b""[..], b"P", &PREFACE[..PREFACE.len() - 1]] {
            let mut stream = server.connect().await;
            stream.write_all(said).await.expect("written");
            closed(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn half_a_head_keeps_no_connection_open() {
    let server = Server::http1(&["--handshake-timeout", "50ms"]).await;
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST"] {
        let mut stream = server.connect().await;
        stream.write_all(said).await.expect("written");
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_greeting_that_comes_in_drops_gains_no_time() {
    let server = Server::start(Protocol::Http2, &["--handshake-timeout", "100ms"]).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let dripping = async {
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
        () = dripping => {}
        ended = timeout(PATIENCE, reader.read_to_end(&mut rest)) => {
            _ = ended.expect("closed in time");
        }
    }
    // Nothing of HTTP/2 has been answered: the preface was never whole.
    assert_eq!(rest, b"");
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("the frames of a test are short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads frames until one of this kind comes for this stream, and gives what it holds.
async fn until_frame(stream: &mut TcpStream, kind: u8, id: u8) -> Vec<u8> {
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
    timeout(PATIENCE, read).await.expect("it comes in time")
}

#[tokio::test]
async fn a_connection_has_so_many_calls_under_way_and_no_more() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const END_OF_HEADERS_AND_STREAM: u8 = 5;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    // POST http /x, in HPACK.
    let head = b"\x83\x86\x04\x02/x\x01\x01x";

    let mut server = Server::start(Protocol::Http2, &["--max-streams", "2"]).await;
    // A client of ours would heed the limit, so it is spoken by hand.
    let mut stream = server.connect().await;
    let calls = [1, 3, 5].map(|id| frame(HEADERS, END_OF_HEADERS_AND_STREAM, id, head));
    let greeting = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    stream.write_all(&greeting).await.expect("written");
    let settings = until_frame(&mut stream, SETTINGS, 0).await;
    let limit = settings.chunks(6).find(|setting| setting.starts_with(&MAX_CONCURRENT_STREAMS));
    assert_eq!(limit.expect("the server tells its limit")[2..], [0, 0, 0, 2]);
    let acknowledged = frame(SETTINGS, 1, 0, b"");
    stream.write_all(&[acknowledged, calls.concat()].concat()).await.expect("written");
    assert_eq!(until_frame(&mut stream, RST_STREAM, 5).await, REFUSED_STREAM);
    for _ in 0..2 {
        assert_eq!(server.requests.recv().await.as_deref(), Some("/x"));
    }
    assert!(server.requests.is_empty(), "the third call came through");
}
