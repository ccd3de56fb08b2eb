//! gRPC-Web over HTTP/1.1, which web pages use.

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
    fake_backend::TIMEOUT,
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply},
};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

/// Starts a gateway whose task-service sends `reply`.
async fn start(reply: Reply) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    (backend, program)
}

/// Encodes a message with its five-byte gRPC prefix.
fn encode_frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn request(program: &Program, content_type: &str, method: &str) -> Request<Full<Bytes>> {
    let body = encode_frame(&GetTaskRequest { id: "x".to_owned() });
    let body = if content_type == TEXT { BASE64_STANDARD.encode(body).into_bytes() } else { body };
    let path = format!("/taskey.task.v1.TaskService/{method}");
    let request = program.request(Method::POST, &path, "").map(|_| Full::from(body));
    with_header(with_header(request, "content-type", content_type), "accept", content_type)
}

/// The messages of a response, and its trailers.
struct GrpcWebResponse {
    headers: HeaderMap,
    messages: Vec<Vec<u8>>,
    trailers: String,
}

impl GrpcWebResponse {
    /// Sends a request and reads the whole response.
    async fn receive(program: &Program, request: Request<Full<Bytes>>) -> Self {
        let is_text = request.headers()["content-type"] == TEXT;
        let (parts, body) = timeout(TIMEOUT, program.open(request)).await.expect("the response starts").into_parts();
        assert_eq!(parts.status, 200);
        let body = timeout(TIMEOUT, body.collect()).await.expect("the response ends").unwrap().to_bytes();
        let body = if is_text { decode_text(&body) } else { body.to_vec() };
        let (mut messages, mut trailers, mut rest) = (Vec::new(), String::new(), &body[..]);
        while let [flags, a, b, c, d, tail @ ..] = rest {
            let (content, next) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]).try_into().unwrap());
            match flags {
                0 => messages.push(content.to_vec()),
                0x80 => trailers.push_str(std::str::from_utf8(content).unwrap()),
                _ => panic!("{flags}"),
            }
            rest = next;
        }
        Self { headers: parts.headers, messages, trailers }
    }

    /// Returns a trailer, or the header of this name in a trailers-only response.
    fn trailer(&self, name: &str) -> String {
        let trailer = self.trailers.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        let header = self.headers.get(name).map(|value| value.to_str().unwrap());
        trailer.or(header).unwrap_or_default().trim().to_owned()
    }
}

/// Decodes Base64. Each frame is encoded separately, with its own padding.
fn decode_text(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|four| BASE64_STANDARD.decode(four).unwrap()).collect()
}

#[tokio::test]
async fn unary_call_returns_its_trailers_in_the_body() {
    for content_type in [BINARY, "application/grpc-web", TEXT] {
        let task = Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() };
        let (backend, program) = start(Reply::message(&task)).await;
        let response = GrpcWebResponse::receive(&program, request(&program, content_type, "GetTask")).await;
        assert_eq!(response.messages, [task.encode_to_vec()], "{content_type}");
        assert!(response.trailers.contains("grpc-status:0"), "{:?}", response.trailers);
        let expected = if content_type == TEXT { TEXT } else { BINARY };
        assert_eq!(response.headers["content-type"], expected);
        let call = backend.call();
        assert_eq!(
            (call.values("content-type"), call.message::<GetTaskRequest>().id),
            (vec!["application/grpc"], "x".to_owned())
        );
    }
}

#[tokio::test]
async fn stream_is_forwarded_message_by_message() {
    let (sender, reply) = Reply::stream();
    let (_backend, program) = start(reply).await;
    let mut body = timeout(TIMEOUT, program.open(request(&program, BINARY, "WatchTasks"))).await.unwrap().into_body();
    for token in ["one", "two"] {
        let message = WatchTasksResponse { sync_token: token.to_owned(), ..WatchTasksResponse::default() };
        sender.send(&message).await;
        let frame = timeout(TIMEOUT, body.frame()).await.expect("the message arrives").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), encode_frame(&message));
    }
    sender.fail(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "the session was revoked")).await;
    let end = timeout(TIMEOUT, body.collect()).await.expect("the response ends").unwrap().to_bytes();
    assert_eq!(end[0], 0x80);
    let trailers = std::str::from_utf8(&end[5..]).unwrap();
    assert!(trailers.contains("grpc-status:16") && trailers.contains("grpc-status-details-bin:"), "{trailers}");
}

#[tokio::test]
async fn error_status_is_forwarded() {
    let error = ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "no such task");
    let (_backend, program) = start(Reply::Status(error.into())).await;
    for content_type in [BINARY, TEXT] {
        let response = GrpcWebResponse::receive(&program, request(&program, content_type, "GetTask")).await;
        assert_eq!((&response.trailer("grpc-status")[..], response.messages.len()), ("5", 0), "{content_type}");
        assert!(!response.trailer("grpc-status-details-bin").is_empty());
    }
}

#[tokio::test]
async fn expired_deadline_is_deadline_exceeded() {
    let (_backend, program) = start(Reply::Never).await;
    let response =
        GrpcWebResponse::receive(&program, with_header(request(&program, BINARY, "GetTask"), "grpc-timeout", "50m"))
            .await;
    assert_eq!(response.trailer("grpc-status"), "4");
}

#[tokio::test]
async fn method_must_be_post() {
    let (backend, program) = start(Reply::Echo).await;
    let mut request = request(&program, BINARY, "GetTask");
    *request.method_mut() = Method::PUT;
    assert_eq!(program.send(request).await.code, 405);
    assert!(!backend.was_called());
}
