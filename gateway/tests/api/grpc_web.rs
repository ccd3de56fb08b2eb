//! gRPC-Web over HTTP/1.1, as pages speak it.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use prost::Message;
use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{GetTaskRequest, Task, WatchTasksResponse},
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    fake_backend::LIMIT,
    program::{NOBODY, Program, with_header},
    support::{FakeBackend, Reply},
};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

async fn before(reply: Reply) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    (backend, program)
}

/// A message with the five bytes before it.
fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn request(program: &Program, content_type: &str, method: &str) -> Request<Full<Bytes>> {
    let body = framed(&GetTaskRequest { id: "x".to_owned() });
    let body = if content_type == TEXT { BASE64_STANDARD.encode(body).into_bytes() } else { body };
    let path = format!("/taskey.task.v1.TaskService/{method}");
    let request = program.request(Method::POST, &path, "").map(|_| Full::from(body));
    with_header(with_header(request, "content-type", content_type), "accept", content_type)
}

/// What came: the messages, and the trailers after them.
struct Answer {
    headers: HeaderMap,
    messages: Vec<Vec<u8>>,
    trailers: String,
}

impl Answer {
    async fn to(program: &Program, request: Request<Full<Bytes>>) -> Self {
        let is_text = request.headers()["content-type"] == TEXT;
        let (parts, body) = timeout(LIMIT, program.open(request)).await.expect("an answer").into_parts();
        assert_eq!(parts.status, 200);
        let body = timeout(LIMIT, body.collect()).await.expect("it ends").unwrap().to_bytes();
        let body = if is_text { decoded(&body) } else { body.to_vec() };
        let (mut messages, mut trailers, mut rest) = (Vec::new(), String::new(), &body[..]);
        while let [kind, a, b, c, d, after @ ..] = rest {
            let (content, next) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]).try_into().unwrap());
            match kind {
                0 => messages.push(content.to_vec()),
                0x80 => trailers.push_str(std::str::from_utf8(content).unwrap()),
                _ => panic!("{kind}"),
            }
            rest = next;
        }
        Self { headers: parts.headers, messages, trailers }
    }

    /// A trailer, or a header where there was nothing else.
    fn status(&self, name: &str) -> String {
        let of_trailers = self.trailers.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        let of_headers = self.headers.get(name).map(|value| value.to_str().unwrap());
        of_trailers.or(of_headers).unwrap_or_default().trim().to_owned()
    }
}

/// Frames are encoded one by one, each with its own padding.
fn decoded(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|four| BASE64_STANDARD.decode(four).unwrap()).collect()
}

#[tokio::test]
async fn a_call_goes_through_and_its_trailers_stand_in_the_body() {
    for content_type in [BINARY, "application/grpc-web", TEXT] {
        let task = Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() };
        let (backend, program) = before(Reply::message(&task)).await;
        let answer = Answer::to(&program, request(&program, content_type, "GetTask")).await;
        assert_eq!(answer.messages, [task.encode_to_vec()], "{content_type}");
        assert!(answer.trailers.contains("grpc-status:0"), "{:?}", answer.trailers);
        let expected = if content_type == TEXT { TEXT } else { BINARY };
        assert_eq!(answer.headers["content-type"], expected);
        let call = backend.call();
        assert_eq!(
            (call.values("content-type"), call.message::<GetTaskRequest>().id),
            (vec!["application/grpc"], "x".to_owned())
        );
    }
}

#[tokio::test]
async fn a_stream_goes_through_message_by_message() {
    let (feeder, reply) = Reply::stream();
    let (_backend, program) = before(reply).await;
    let mut body = timeout(LIMIT, program.open(request(&program, BINARY, "WatchTasks"))).await.unwrap().into_body();
    for token in ["one", "two"] {
        let told = WatchTasksResponse { sync_token: token.to_owned(), ..WatchTasksResponse::default() };
        feeder.send(&told).await;
        let frame = timeout(LIMIT, body.frame()).await.expect("it comes").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), framed(&told));
    }
    feeder.refuse(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "it has ended")).await;
    let end = timeout(LIMIT, body.collect()).await.expect("it ends").unwrap().to_bytes();
    assert_eq!(end[0], 0x80);
    let trailers = std::str::from_utf8(&end[5..]).unwrap();
    assert!(trailers.contains("grpc-status:16") && trailers.contains("grpc-status-details-bin:"), "{trailers}");
}

#[tokio::test]
async fn a_refusal_bears_its_status() {
    let refusal = ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "no such task");
    let (_backend, program) = before(Reply::Refuse(refusal.into())).await;
    for content_type in [BINARY, TEXT] {
        let answer = Answer::to(&program, request(&program, content_type, "GetTask")).await;
        assert_eq!((&answer.status("grpc-status")[..], answer.messages.len()), ("5", 0), "{content_type}");
        assert!(!answer.status("grpc-status-details-bin").is_empty());
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_one() {
    let (_backend, program) = before(Reply::Nothing).await;
    let answer = Answer::to(&program, with_header(request(&program, BINARY, "GetTask"), "grpc-timeout", "50m")).await;
    assert_eq!(answer.status("grpc-status"), "4");
}

#[tokio::test]
async fn a_call_is_posted() {
    let (backend, program) = before(Reply::Echo).await;
    let mut request = request(&program, BINARY, "GetTask");
    *request.method_mut() = Method::PUT;
    assert_eq!(program.send(request).await.code, 405);
    assert!(!backend.was_called());
}
