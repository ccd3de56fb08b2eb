//! `Idempotency-Key`: requests that can be repeated.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use prost::Message;
use taskey_proto::task::v1::{CreateTaskRequest, MoveTaskRequest, Task};

use crate::{
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply},
};

const KEY: &str = "0198c0de-0000-7000-8000-000000000001";

async fn start(reply: Reply) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    (backend, program)
}

fn create_task(program: &Program) -> Request<Full<Bytes>> {
    program.request(Method::POST, "/v1/tasks", r#"{"title":"x"}"#)
}

#[tokio::test]
async fn key_sets_the_request_id() {
    for header in [KEY.to_owned(), format!("\"{KEY}\"")] {
        let (backend, program) = start(Reply::message(&Task::default())).await;
        program.send(with_header(create_task(&program), "idempotency-key", &header)).await.ok();
        let call: CreateTaskRequest = backend.call().message();
        assert_eq!((&call.request_id[..], call.task.unwrap().title), (KEY, "x".to_owned()), "{header}");
    }
}

#[tokio::test]
async fn key_can_repeat_the_request_id_of_the_body() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let body = format!(r#"{{"first":true,"requestId":"{KEY}"}}"#);
    let request = program.request(Method::POST, "/v1/tasks/x:move", &body);
    program.send(with_header(request, "idempotency-key", KEY)).await.ok();
    assert_eq!(backend.call().message::<MoveTaskRequest>().request_id, KEY);
}

#[tokio::test]
async fn replayed_response_has_the_replayed_header() {
    let (_backend, program) = start(Reply::Replay(Task::default().encode_to_vec())).await;
    let response = program.send(with_header(create_task(&program), "idempotency-key", KEY)).await;
    assert_eq!((response.code, response.header("idempotent-replayed")), (200, "true"));
}

#[tokio::test]
async fn new_response_lacks_the_replayed_header() {
    let (_backend, program) = start(Reply::message(&Task::default())).await;
    let response = program.send(with_header(create_task(&program), "idempotency-key", KEY)).await;
    assert_eq!((response.code, response.headers.get("idempotent-replayed")), (200, None));
}

#[tokio::test]
async fn repeated_or_empty_key_is_malformed() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let mut repeated = with_header(create_task(&program), "idempotency-key", KEY);
    repeated.headers_mut().append("idempotency-key", KEY.parse().unwrap());
    program.send(repeated).await.assert_malformed();
    for empty in ["", " ", "\"\""] {
        program.send(with_header(create_task(&program), "idempotency-key", empty)).await.assert_malformed();
    }
    assert!(!backend.was_called());
}

#[tokio::test]
async fn key_that_contradicts_the_body_is_malformed() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let request = program.request(Method::POST, "/v1/tasks/x:move", r#"{"first":true,"requestId":"other"}"#);
    program.send(with_header(request, "idempotency-key", KEY)).await.assert_malformed();
    assert!(!backend.was_called());
}

#[tokio::test]
async fn key_is_rejected_by_rpcs_without_a_request_id() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    for (method, path) in [(Method::GET, "/v1/tasks/x"), (Method::GET, "/v1/tasks"), (Method::GET, "/v1/tasks:watch")] {
        let request = program.request(method, path, "");
        program.send(with_header(request, "idempotency-key", KEY)).await.assert_malformed();
    }
    assert!(!backend.was_called());
}
