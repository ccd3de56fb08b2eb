//! A running gateway that is sent raw bytes.

use http::{HeaderMap, HeaderName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) use crate::fake_backend::TIMEOUT;
use crate::{
    program::{Program, UNREACHABLE},
    support::{FakeBackend, Reply, TestResponse, config},
};

/// A running gateway whose task-service returns the same message for every call.
pub(crate) struct Target {
    pub(crate) program: Program,
    pub(crate) backend: FakeBackend,
}

impl Target {
    /// Starts a gateway whose task-service returns an empty message.
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new(), &[]).await
    }

    pub(crate) async fn start_with(message: Vec<u8>, flags: &[&str]) -> Self {
        let backend = FakeBackend::start(Reply::Message(message)).await;
        let url = backend.url();
        let flags = [&["--auth-url", UNREACHABLE, "--task-url", &url], flags].concat();
        Self { program: Program::start(config(&flags)).await, backend }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.program.address).await.unwrap()
    }

    /// Sends bytes and returns all responses until the gateway closes the connection.
    pub(crate) async fn send_all(&self, bytes: impl AsRef<[u8]>) -> Vec<TestResponse> {
        let mut stream = self.connect().await;
        // The gateway can close the connection before all bytes are sent.
        _ = stream.write_all(bytes.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// Sends bytes and returns the only response.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> TestResponse {
        let mut responses = self.send_all(bytes).await;
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses.remove(0)
    }

    /// Sends a POST of a task.
    pub(crate) async fn post(&self, headers: &str, body: &[u8]) -> TestResponse {
        let head =
            format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        self.send([head.as_bytes(), headers.as_bytes(), b"\r\n", body].concat()).await
    }

    pub(crate) async fn assert_still_serving(&self) {
        self.program.get("/healthz").await.ok();
    }
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<TestResponse> {
    let mut bytes = Vec::new();
    // A connection that is closed while the client is sending is reset, after the responses are received.
    _ = timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("the gateway closes the connection");
    parse(&String::from_utf8(bytes).unwrap())
}

/// Parses a sequence of responses.
fn parse(text: &str) -> Vec<TestResponse> {
    let mut responses = Vec::new();
    let mut rest = text;
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let mut lines = head.lines();
        let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HeaderMap = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let body = &after[..after.len().min(length)];
        rest = &after[body.len()..];
        responses.push(TestResponse { code, headers, text: body.to_owned() });
    }
    responses
}
