//! Requests that may come again.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use prost::Message;
use taskey_proto::task::v1::{CreateTaskRequest, MoveTaskRequest, Task};

use crate::{
    program::{NOBODY, Program, with_header},
    support::{FakeBackend, Reply},
};

const KEY: &str = "0198c0de-0000-7000-8000-000000000001";

async fn start(reply: Reply) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    (backend, program)
}

fn create(program: &Program) -> Request<Full<Bytes>> {
    program.request(Method::POST, "/v1/tasks", r#"{"title":"x"}"#)
}

#[tokio::test]
async fn the_key_is_the_id_of_the_request() {
    for written in [KEY.to_owned(), format!("\"{KEY}\"")] {
        let (backend, program) = start(Reply::message(&Task::default())).await;
        program.send(with_header(create(&program), "idempotency-key", &written)).await.ok();
        let call: CreateTaskRequest = backend.call().message();
        assert_eq!((&call.request_id[..], call.task.unwrap().title), (KEY, "x".to_owned()), "{written}");
    }
}

#[tokio::test]
async fn the_key_may_stand_in_the_body_too() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let body = format!(r#"{{"first":true,"requestId":"{KEY}"}}"#);
    let request = program.request(Method::POST, "/v1/tasks/x:move", &body);
    program.send(with_header(request, "idempotency-key", KEY)).await.ok();
    assert_eq!(backend.call().message::<MoveTaskRequest>().request_id, KEY);
}

#[tokio::test]
async fn an_answer_that_was_given_before_says_so() {
    let (_backend, program) = start(Reply::Replay(Task::default().encode_to_vec())).await;
    let answer = program.send(with_header(create(&program), "idempotency-key", KEY)).await;
    assert_eq!((answer.code, answer.header("idempotent-replayed")), (200, "true"));
}

#[tokio::test]
async fn a_new_answer_says_nothing_of_it() {
    let (_backend, program) = start(Reply::message(&Task::default())).await;
    let answer = program.send(with_header(create(&program), "idempotency-key", KEY)).await;
    assert_eq!((answer.code, answer.headers.get("idempotent-replayed")), (200, None));
}

#[tokio::test]
async fn what_is_not_one_key_is_malformed() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let mut two = with_header(create(&program), "idempotency-key", KEY);
    two.headers_mut().append("idempotency-key", KEY.parse().unwrap());
    program.send(two).await.assert_malformed();
    for none in ["", " ", "\"\""] {
        program.send(with_header(create(&program), "idempotency-key", none)).await.assert_malformed();
    }
    assert!(!backend.was_called());
}

#[tokio::test]
async fn a_body_that_says_otherwise_is_malformed() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    let request = program.request(Method::POST, "/v1/tasks/x:move", r#"{"first":true,"requestId":"other"}"#);
    program.send(with_header(request, "idempotency-key", KEY)).await.assert_malformed();
    assert!(!backend.was_called());
}

#[tokio::test]
async fn a_method_that_takes_no_key_is_not_called_with_one() {
    let (backend, program) = start(Reply::message(&Task::default())).await;
    for (method, path) in [(Method::GET, "/v1/tasks/x"), (Method::GET, "/v1/tasks"), (Method::GET, "/v1/tasks:watch")] {
        let request = program.request(method, path, "");
        program.send(with_header(request, "idempotency-key", KEY)).await.assert_malformed();
    }
    assert!(!backend.was_called());
}
