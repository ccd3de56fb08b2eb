//! Streaming responses, as lines and as events.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{WatchTasksRequest, WatchTasksResponse},
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use crate::{
    fake_backend::{EventSender, TIMEOUT},
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply, TestResponse},
};

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// A gateway whose task-service returns one stream.
struct StreamFixture {
    program: Program,
    backend: FakeBackend,
    sender: EventSender,
}

impl StreamFixture {
    async fn start() -> Self {
        let (sender, reply) = Reply::stream();
        let backend = FakeBackend::start(reply).await;
        let program = Program::start_with(UNREACHABLE, &backend.url()).await;
        Self { program, backend, sender }
    }

    fn request(&self, accept: &str) -> Request<Full<Bytes>> {
        with_header(self.program.request(Method::GET, "/v1/tasks:watch?syncToken=url", ""), "accept", accept)
    }

    async fn open(&self, accept: &str) -> Reader {
        self.send(self.request(accept)).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Reader {
        let response = timeout(TIMEOUT, self.program.open(request)).await.expect("the response starts");
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        Reader { headers: parts.headers, body, buffer: String::new() }
    }
}

/// Reads a response incrementally.
struct Reader {
    headers: HeaderMap,
    body: Incoming,
    buffer: String,
}

impl Reader {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Reads up to and including `delimiter`.
    async fn read_until(&mut self, delimiter: &str) -> String {
        loop {
            if let Some(index) = self.buffer.find(delimiter) {
                let rest = self.buffer.split_off(index + delimiter.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            assert!(self.read_frame().await, "the stream ends with {:?}", self.buffer);
        }
    }

    /// Reads the rest of the stream.
    async fn read_to_end(mut self) -> String {
        while self.read_frame().await {}
        self.buffer
    }

    /// Reads the next frame. Returns `false` at the end of the stream.
    async fn read_frame(&mut self) -> bool {
        match timeout(TIMEOUT, self.body.frame()).await.expect("the stream continues or ends") {
            Some(frame) => {
                self.buffer += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
                true
            }
            None => false,
        }
    }
}

fn watch_response(sync_token: &str) -> WatchTasksResponse {
    WatchTasksResponse { sync_token: sync_token.to_owned(), ..WatchTasksResponse::default() }
}

const FIRST: &str = r#"{"changes":[],"syncToken":"one","checkpoint":false,"listChanges":[]}"#;
const SECOND: &str = r#"{"changes":[],"syncToken":"two","checkpoint":false,"listChanges":[]}"#;

/// Asserts the code, status, reason and request id of the error that ended a stream.
#[track_caller]
fn assert_stream_error(json: &str, code: u16, status: &str, reason: &str) {
    let response = TestResponse { code, headers: HeaderMap::new(), text: json.to_owned() };
    response.assert_refused(code, status, reason, &[]);
    assert_eq!(response.detail("RequestInfo")["requestId"], "mine");
}

#[tokio::test]
async fn each_message_is_sent_immediately_as_a_line() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.open(LINES).await;
    assert_eq!((reader.header("content-type"), reader.header("cache-control")), (LINES, "no-store"));
    fixture.sender.send(&watch_response("one")).await;
    assert_eq!(reader.read_until("\n").await, format!("{FIRST}\n"));
    fixture.sender.send(&watch_response("two")).await;
    assert_eq!(reader.read_until("\n").await, format!("{SECOND}\n"));
    drop(fixture.sender);
    assert_eq!(reader.read_to_end().await, "");
}

#[tokio::test]
async fn each_message_is_an_event_with_its_sync_token_as_id() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.open(EVENTS).await;
    assert_eq!((reader.header("content-type"), reader.header("x-accel-buffering")), (EVENTS, "no"));
    assert_eq!(reader.read_until("\n\n").await, "retry: 1000\n\n");
    fixture.sender.send(&watch_response("one")).await;
    assert_eq!(reader.read_until("\n\n").await, format!("id: one\ndata: {FIRST}\n\n"));
    fixture.sender.send(&watch_response("")).await;
    assert_eq!(reader.read_until("\n\n").await, format!("data: {}\n\n", FIRST.replace("one", "")));
    drop(fixture.sender);
    assert_eq!(reader.read_to_end().await, "");
}

#[tokio::test]
async fn last_event_id_takes_precedence_over_the_url() {
    for (last, expected) in [(Some("seen"), "seen"), (Some(""), "url"), (None, "url")] {
        let fixture = StreamFixture::start().await;
        let mut request = fixture.request(EVENTS);
        if let Some(last) = last {
            request = with_header(request, "last-event-id", last);
        }
        let _reader = fixture.send(request).await;
        assert_eq!(fixture.backend.call().message::<WatchTasksRequest>().sync_token, expected, "{last:?}");
    }
}

#[tokio::test]
async fn idle_event_stream_sends_keep_alives_and_outlasts_the_deadline() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.send(with_header(fixture.request(EVENTS), "request-timeout", "5")).await;
    assert_eq!(reader.read_until("\n\n").await, "retry: 1000\n\n");
    tokio::time::pause();
    let start = Instant::now();
    for _ in 0..2 {
        assert_eq!(reader.read_until("\n\n").await, ": keep-alive\n\n");
    }
    let elapsed = start.elapsed();
    // The first interval has begun a moment before the clock was paused.
    assert!((Duration::from_secs(29)..Duration::from_secs(31)).contains(&elapsed), "{elapsed:?}");
    fixture.sender.send(&watch_response("one")).await;
    assert_eq!(reader.read_until("\n\n").await, format!("id: one\ndata: {FIRST}\n\n"));
}

#[tokio::test]
async fn idle_line_stream_sends_nothing() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.open(LINES).await;
    tokio::time::pause();
    timeout(Duration::from_secs(19), reader.body.frame()).await.expect_err("nothing is sent");
    fixture.sender.send(&watch_response("one")).await;
    assert_eq!(reader.read_until("\n").await, format!("{FIRST}\n"));
}

#[tokio::test]
async fn error_before_the_first_message_is_a_json_error() {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, "no such token");
    let backend = FakeBackend::start(Reply::Status(error.into())).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    for accept in [LINES, EVENTS] {
        let request = with_header(program.request(Method::GET, "/v1/tasks:watch", ""), "accept", accept);
        let response = program.send(request).await;
        response.assert_refused(400, "INVALID_ARGUMENT", "SYNC_TOKEN_INVALID", &[]);
        assert_eq!(response.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn error_during_the_stream_is_the_last_event() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.send(with_header(fixture.request(EVENTS), "x-request-id", "mine")).await;
    fixture.sender.send(&watch_response("one")).await;
    reader.read_until(&format!("{FIRST}\n\n")).await;
    fixture
        .sender
        .fail(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "the session was revoked"))
        .await;
    let last = reader.read_to_end().await;
    let json = last.strip_prefix("event: error\ndata: ").and_then(|last| last.strip_suffix("\n\n"));
    assert_stream_error(json.unwrap_or_else(|| panic!("{last}")), 401, "UNAUTHENTICATED", "TOKEN_REVOKED");
}

#[tokio::test]
async fn error_during_the_stream_is_the_last_line() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.send(with_header(fixture.request(LINES), "x-request-id", "mine")).await;
    fixture.sender.send(&watch_response("one")).await;
    reader.read_until("\n").await;
    // The status of a proxy has no reason.
    fixture.sender.fail(Status::unavailable("upstream reset")).await;
    let last = reader.read_to_end().await;
    assert!(last.ends_with('\n') && last.lines().count() == 1 && !last.contains("upstream"), "{last}");
    assert_stream_error(&last, 503, "UNAVAILABLE", "BACKEND_UNAVAILABLE");
}

#[tokio::test]
async fn shutdown_ends_the_stream() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.send(with_header(fixture.request(LINES), "x-request-id", "mine")).await;
    fixture.sender.send(&watch_response("one")).await;
    reader.read_until("\n").await;
    fixture.program.shutdown.cancel();
    assert_stream_error(&reader.read_to_end().await, 503, "UNAVAILABLE", "SHUTTING_DOWN");
    timeout(TIMEOUT, fixture.program.running).await.expect("the gateway stops").unwrap().unwrap();
    fixture.sender.cancelled().await;
}

#[tokio::test]
async fn disconnect_cancels_the_call() {
    for accept in [LINES, EVENTS] {
        let fixture = StreamFixture::start().await;
        let mut reader = fixture.open(accept).await;
        fixture.sender.send(&watch_response("one")).await;
        reader.read_until(FIRST).await;
        drop(reader);
        fixture.sender.cancelled().await;
    }
}

#[tokio::test]
async fn head_cancels_the_call() {
    let fixture = StreamFixture::start().await;
    let mut request = fixture.request(LINES);
    *request.method_mut() = Method::HEAD;
    let reader = fixture.send(request).await;
    assert_eq!(reader.header("content-type"), LINES);
    assert_eq!(reader.read_to_end().await, "");
    fixture.sender.cancelled().await;
}

#[tokio::test]
async fn accept_without_a_stream_type_is_406() {
    let fixture = StreamFixture::start().await;
    let response = fixture.program.send(fixture.request("text/html")).await;
    response.assert_refused(406, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    assert!(!fixture.backend.was_called());
}

#[tokio::test]
async fn stream_is_not_compressed() {
    let fixture = StreamFixture::start().await;
    let mut reader = fixture.send(with_header(fixture.request(LINES), "accept-encoding", "gzip")).await;
    assert_eq!((reader.header("content-encoding"), reader.header("content-length")), ("", ""));
    let long = "x".repeat(5000);
    fixture.sender.send(&watch_response(&long)).await;
    assert!(reader.read_until("\n").await.contains(&long));
}
