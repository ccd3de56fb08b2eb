//! Writes whose answer nobody wants to read.

use http::Method;
use prost::Message;
use taskey_proto::{
    auth::v1::TokenPair,
    task::v1::{ListTasksResponse, Task},
};

use crate::{
    program::{Program, with_header},
    support::{Answer, FakeBackend, Reply, TestGateway, request},
};

/// The answer to a request that prefers this, where the services answer that message.
async fn answer(message: &impl Message, method: Method, path: &str, body: &str, prefer: &str) -> Answer {
    let backend = FakeBackend::start(Reply::message(message)).await;
    let program = Program::before(&backend.url(), &backend.url()).await;
    program.send(with_header(program.request(method, path, body), "prefer", prefer)).await
}

fn task() -> Task {
    Task { id: "x".to_owned(), etag: "\"1f\"".to_owned(), ..Task::default() }
}

#[tokio::test]
async fn a_write_answers_no_more_than_its_tag() {
    for (method, path, body) in [
        (Method::POST, "/v1/tasks", r#"{"title":"x"}"#),
        (Method::PATCH, "/v1/tasks/x", r#"{"title":"x"}"#),
        (Method::DELETE, "/v1/tasks/x", ""),
        (Method::POST, "/v1/tasks/x:complete", ""),
    ] {
        let answer = answer(&task(), method, path, body, "return=minimal").await;
        assert_eq!((answer.code, &answer.text[..], answer.header("etag")), (204, "", "\"1f\""), "{path}");
        assert_eq!(answer.header("preference-applied"), "return=minimal");
        assert_eq!((answer.header("content-length"), answer.header("content-type")), ("", ""));
    }
}

#[tokio::test]
async fn an_empty_answer_may_be_left_out_too() {
    let answer = answer(&(), Method::DELETE, "/v1/me/sessions/x", "", "return=minimal").await;
    assert_eq!((answer.code, &answer.text[..]), (204, ""));
}

#[tokio::test]
async fn who_wants_the_resource_gets_it() {
    let answer = answer(&task(), Method::POST, "/v1/tasks", r#"{"title":"x"}"#, "return=representation").await;
    assert_eq!((answer.ok()["id"].as_str(), answer.header("preference-applied")), (Some("x"), ""));
}

#[tokio::test]
async fn where_the_answer_is_the_point_it_comes() {
    let login = r#"{"email":"a@example.org","password":"x"}"#;
    let pair = TokenPair { access_token: "a".to_owned(), ..TokenPair::default() };
    let answered = answer(&pair, Method::POST, "/v1/auth/login", login, "return=minimal").await;
    assert_eq!(answered.ok()["accessToken"], "a");
    answer(&task(), Method::GET, "/v1/tasks/x", "", "return=minimal").await.ok();
    let batch = r#"{"writes":[]}"#;
    answer(&ListTasksResponse::default(), Method::POST, "/v1/tasks:batchWrite", batch, "return=minimal").await.ok();
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_length() {
    let gateway = TestGateway::start().await;
    let tagged = r#"{"etag":"\"1f\""}"#;
    let minimal = with_header(request(Method::POST, "/v1/whole", tagged), "prefer", "return=minimal");
    let known = with_header(request(Method::GET, "/v1/query?etag=%221f%22", ""), "if-none-match", "\"1f\"");
    for (request, code) in [(minimal, 204), (known, 304)] {
        let answer = gateway.send(request).await;
        assert_eq!((answer.code, answer.headers.get("content-length")), (code, None));
    }
}
