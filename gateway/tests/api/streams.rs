//! Answers that go on, as lines and as events.

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
    fake_backend::{Feeder, LIMIT},
    program::{NOBODY, Program, with_header},
    support::{Answer, FakeBackend, Reply},
};

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// A gateway before a task-service with one stream.
struct Watched {
    program: Program,
    backend: FakeBackend,
    feeder: Feeder,
}

impl Watched {
    async fn start() -> Self {
        let (feeder, reply) = Reply::stream();
        let backend = FakeBackend::start(reply).await;
        let program = Program::before(NOBODY, &backend.url()).await;
        Self { program, backend, feeder }
    }

    fn request(&self, accept: &str) -> Request<Full<Bytes>> {
        with_header(self.program.request(Method::GET, "/v1/tasks:watch?syncToken=url", ""), "accept", accept)
    }

    async fn open(&self, accept: &str) -> Reader {
        self.read(self.request(accept)).await
    }

    async fn read(&self, request: Request<Full<Bytes>>) -> Reader {
        let response = timeout(LIMIT, self.program.open(request)).await.expect("the answer begins");
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        Reader { headers: parts.headers, body, read: String::new() }
    }
}

/// An answer that is read bit by bit.
struct Reader {
    headers: HeaderMap,
    body: Incoming,
    read: String,
}

impl Reader {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// What comes until this text, which it ends with.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.find(end) {
                let rest = self.read.split_off(at + end.len());
                return std::mem::replace(&mut self.read, rest);
            }
            assert!(self.more().await, "it ends with {:?}", self.read);
        }
    }

    /// What comes until the end.
    async fn rest(mut self) -> String {
        while self.more().await {}
        self.read
    }

    async fn more(&mut self) -> bool {
        match timeout(LIMIT, self.body.frame()).await.expect("it goes on or ends") {
            Some(frame) => {
                self.read += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
                true
            }
            None => false,
        }
    }
}

fn told(sync_token: &str) -> WatchTasksResponse {
    WatchTasksResponse { sync_token: sync_token.to_owned(), ..WatchTasksResponse::default() }
}

const FIRST: &str = r#"{"changes":[],"syncToken":"one","checkpoint":false}"#;
const SECOND: &str = r#"{"changes":[],"syncToken":"two","checkpoint":false}"#;

/// Asserts what the error says that ended a stream.
#[track_caller]
fn assert_ended_by(json: &str, code: u16, status: &str, reason: &str) {
    let answer = Answer { code, headers: HeaderMap::new(), text: json.to_owned() };
    answer.assert_refused(code, status, reason, &[]);
    assert_eq!(answer.detail("RequestInfo")["requestId"], "mine");
}

#[tokio::test]
async fn each_message_is_a_line_that_is_there_before_the_next() {
    let watched = Watched::start().await;
    let mut reader = watched.open(LINES).await;
    assert_eq!((reader.header("content-type"), reader.header("cache-control")), (LINES, "no-store"));
    watched.feeder.send(&told("one")).await;
    assert_eq!(reader.until("\n").await, format!("{FIRST}\n"));
    watched.feeder.send(&told("two")).await;
    assert_eq!(reader.until("\n").await, format!("{SECOND}\n"));
    drop(watched.feeder);
    assert_eq!(reader.rest().await, "");
}

#[tokio::test]
async fn each_message_is_an_event_that_says_whence_to_go_on() {
    let watched = Watched::start().await;
    let mut reader = watched.open(EVENTS).await;
    assert_eq!((reader.header("content-type"), reader.header("x-accel-buffering")), (EVENTS, "no"));
    assert_eq!(reader.until("\n\n").await, "retry: 1000\n\n");
    watched.feeder.send(&told("one")).await;
    assert_eq!(reader.until("\n\n").await, format!("id: one\ndata: {FIRST}\n\n"));
    watched.feeder.send(&told("")).await;
    assert_eq!(reader.until("\n\n").await, format!("data: {}\n\n", FIRST.replace("one", "")));
    drop(watched.feeder);
    assert_eq!(reader.rest().await, "");
}

#[tokio::test]
async fn the_last_event_counts_more_than_the_url() {
    for (last, expected) in [(Some("seen"), "seen"), (Some(""), "url"), (None, "url")] {
        let watched = Watched::start().await;
        let mut request = watched.request(EVENTS);
        if let Some(last) = last {
            request = with_header(request, "last-event-id", last);
        }
        let _reader = watched.read(request).await;
        assert_eq!(watched.backend.call().message::<WatchTasksRequest>().sync_token, expected, "{last:?}");
    }
}

#[tokio::test]
async fn silence_is_filled_with_comments_and_outlasts_the_deadline() {
    let watched = Watched::start().await;
    let mut reader = watched.read(with_header(watched.request(EVENTS), "request-timeout", "5")).await;
    assert_eq!(reader.until("\n\n").await, "retry: 1000\n\n");
    tokio::time::pause();
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(reader.until("\n\n").await, ": keep-alive\n\n");
    }
    let silent = begun.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(31)).contains(&silent), "{silent:?}");
    watched.feeder.send(&told("one")).await;
    assert_eq!(reader.until("\n\n").await, format!("id: one\ndata: {FIRST}\n\n"));
}

#[tokio::test]
async fn lines_have_no_comments() {
    let watched = Watched::start().await;
    let mut reader = watched.open(LINES).await;
    tokio::time::pause();
    timeout(Duration::from_secs(19), reader.body.frame()).await.expect_err("nothing comes");
    watched.feeder.send(&told("one")).await;
    assert_eq!(reader.until("\n").await, format!("{FIRST}\n"));
}

#[tokio::test]
async fn a_refusal_before_the_first_message_is_an_error_like_any_other() {
    let refusal = ApiError::new(Code::InvalidArgument, ErrorReason::SyncTokenInvalid, "no such token");
    let backend = FakeBackend::start(Reply::Refuse(refusal.into())).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    for accept in [LINES, EVENTS] {
        let request = with_header(program.request(Method::GET, "/v1/tasks:watch", ""), "accept", accept);
        let answer = program.send(request).await;
        answer.assert_refused(400, "INVALID_ARGUMENT", "SYNC_TOKEN_INVALID", &[]);
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_failure_in_the_midst_is_the_last_event() {
    let watched = Watched::start().await;
    let mut reader = watched.read(with_header(watched.request(EVENTS), "x-request-id", "mine")).await;
    watched.feeder.send(&told("one")).await;
    reader.until(&format!("{FIRST}\n\n")).await;
    watched.feeder.refuse(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "it has ended")).await;
    let last = reader.rest().await;
    let json = last.strip_prefix("event: error\ndata: ").and_then(|last| last.strip_suffix("\n\n"));
    assert_ended_by(json.unwrap_or_else(|| panic!("{last}")), 401, "UNAUTHENTICATED", "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_failure_in_the_midst_is_the_last_line() {
    let watched = Watched::start().await;
    let mut reader = watched.read(with_header(watched.request(LINES), "x-request-id", "mine")).await;
    watched.feeder.send(&told("one")).await;
    reader.until("\n").await;
    // What a proxy says gives no reason.
    watched.feeder.refuse(Status::unavailable("upstream reset")).await;
    let last = reader.rest().await;
    assert!(last.ends_with('\n') && last.lines().count() == 1 && !last.contains("upstream"), "{last}");
    assert_ended_by(&last, 503, "UNAVAILABLE", "BACKEND_UNAVAILABLE");
}

#[tokio::test]
async fn the_end_of_the_server_is_that_of_the_stream() {
    let watched = Watched::start().await;
    let mut reader = watched.read(with_header(watched.request(LINES), "x-request-id", "mine")).await;
    watched.feeder.send(&told("one")).await;
    reader.until("\n").await;
    watched.program.shutdown.cancel();
    assert_ended_by(&reader.rest().await, 503, "UNAVAILABLE", "SHUTTING_DOWN");
    timeout(LIMIT, watched.program.running).await.expect("it ends").unwrap().unwrap();
    watched.feeder.cancelled().await;
}

#[tokio::test]
async fn the_call_goes_when_its_reader_goes() {
    for accept in [LINES, EVENTS] {
        let watched = Watched::start().await;
        let mut reader = watched.open(accept).await;
        watched.feeder.send(&told("one")).await;
        reader.until(FIRST).await;
        drop(reader);
        watched.feeder.cancelled().await;
    }
}

#[tokio::test]
async fn head_leaves_no_call_behind() {
    let watched = Watched::start().await;
    let mut request = watched.request(LINES);
    *request.method_mut() = Method::HEAD;
    let reader = watched.read(request).await;
    assert_eq!(reader.header("content-type"), LINES);
    assert_eq!(reader.rest().await, "");
    watched.feeder.cancelled().await;
}

#[tokio::test]
async fn who_takes_no_stream_is_told_so() {
    let watched = Watched::start().await;
    let answer = watched.program.send(watched.request("text/html")).await;
    answer.assert_refused(406, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    assert!(!watched.backend.was_called());
}

#[tokio::test]
async fn a_stream_is_not_compressed() {
    let watched = Watched::start().await;
    let mut reader = watched.read(with_header(watched.request(LINES), "accept-encoding", "gzip")).await;
    assert_eq!((reader.header("content-encoding"), reader.header("content-length")), ("", ""));
    let long = "x".repeat(5000);
    watched.feeder.send(&told(&long)).await;
    assert!(reader.until("\n").await.contains(&long));
}
