//! A running gateway, spoken to byte by byte.

use http::{HeaderMap, HeaderName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) use crate::fake_backend::LIMIT;
use crate::{
    program::{NOBODY, Program},
    support::{Answer, FakeBackend, Reply, config},
};

/// A running gateway whose task-service answers an empty message, whatever it is asked.
pub(crate) struct Target {
    pub(crate) program: Program,
    pub(crate) backend: FakeBackend,
}

impl Target {
    pub(crate) async fn start() -> Self {
        Self::answering(Vec::new(), &[]).await
    }

    pub(crate) async fn answering(message: Vec<u8>, flags: &[&str]) -> Self {
        let backend = FakeBackend::start(Reply::Message(message)).await;
        let url = backend.url();
        let flags = [&["--auth-url", NOBODY, "--task-url", &url], flags].concat();
        Self { program: Program::start(config(&flags)).await, backend }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.program.address).await.unwrap()
    }

    /// All that comes back until the gateway closes the connection.
    pub(crate) async fn answers(&self, bytes: impl AsRef<[u8]>) -> Vec<Answer> {
        let mut stream = self.connect().await;
        // It may be refused before it has been sent.
        _ = stream.write_all(bytes.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// The only answer.
    pub(crate) async fn answer(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut answers = self.answers(bytes).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// The answer to a POST of a task.
    pub(crate) async fn post(&self, headers: &str, body: &[u8]) -> Answer {
        let head =
            format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        self.answer([head.as_bytes(), headers.as_bytes(), b"\r\n", body].concat()).await
    }

    pub(crate) async fn assert_goes_on(&self) {
        self.program.get("/healthz").await.ok();
    }
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<Answer> {
    let mut bytes = Vec::new();
    // A connection that is closed while something is still on its way is reset, after what has come.
    _ = timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("the gateway closes the connection");
    parse(&String::from_utf8(bytes).unwrap())
}

/// The answers in a text.
fn parse(text: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
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
        answers.push(Answer { code, headers, text: body.to_owned() });
    }
    answers
}
