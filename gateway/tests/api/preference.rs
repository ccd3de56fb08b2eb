//! `Prefer: return=minimal`: writes without a response body.

use http::Method;
use prost::Message;
use taskey_proto::{
    auth::v1::TokenPair,
    task::v1::{ListTasksResponse, Task},
};

use crate::{
    program::{Program, with_header},
    support::{FakeBackend, Reply, TestGateway, TestResponse, request},
};

/// Sends a request with a `Prefer` header to a gateway whose services return `message`.
async fn send(message: &impl Message, method: Method, path: &str, body: &str, prefer: &str) -> TestResponse {
    let backend = FakeBackend::start(Reply::message(message)).await;
    let program = Program::start_with(&backend.url(), &backend.url()).await;
    program.send(with_header(program.request(method, path, body), "prefer", prefer)).await
}

fn task() -> Task {
    Task { id: "x".to_owned(), etag: "\"1f\"".to_owned(), ..Task::default() }
}

#[tokio::test]
async fn minimal_write_returns_only_the_etag() {
    for (method, path, body) in [
        (Method::POST, "/v1/tasks", r#"{"title":"x"}"#),
        (Method::PATCH, "/v1/tasks/x", r#"{"title":"x"}"#),
        (Method::DELETE, "/v1/tasks/x", ""),
        (Method::POST, "/v1/tasks/x:complete", ""),
    ] {
        let response = send(&task(), method, path, body, "return=minimal").await;
        assert_eq!((response.code, &response.text[..], response.header("etag")), (204, "", "\"1f\""), "{path}");
        assert_eq!(response.header("preference-applied"), "return=minimal");
        assert_eq!((response.header("content-length"), response.header("content-type")), ("", ""));
    }
}

#[tokio::test]
async fn minimal_write_with_an_empty_response_returns_no_body() {
    let response = send(&(), Method::DELETE, "/v1/me/sessions/x", "", "return=minimal").await;
    assert_eq!((response.code, &response.text[..]), (204, ""));
}

#[tokio::test]
async fn representation_preference_returns_the_resource() {
    let response = send(&task(), Method::POST, "/v1/tasks", r#"{"title":"x"}"#, "return=representation").await;
    assert_eq!((response.ok()["id"].as_str(), response.header("preference-applied")), (Some("x"), ""));
}

#[tokio::test]
async fn minimal_preference_is_ignored_by_logins_reads_and_batches() {
    let login = r#"{"email":"a@example.org","password":"x"}"#;
    let pair = TokenPair { access_token: "a".to_owned(), ..TokenPair::default() };
    let response = send(&pair, Method::POST, "/v1/auth/login", login, "return=minimal").await;
    assert_eq!(response.ok()["accessToken"], "a");
    send(&task(), Method::GET, "/v1/tasks/x", "", "return=minimal").await.ok();
    let batch = r#"{"writes":[]}"#;
    send(&ListTasksResponse::default(), Method::POST, "/v1/tasks:batchWrite", batch, "return=minimal").await.ok();
}

#[tokio::test]
async fn response_without_a_body_has_no_content_length() {
    let gateway = TestGateway::start().await;
    let body = r#"{"etag":"\"1f\""}"#;
    let minimal = with_header(request(Method::POST, "/v1/whole", body), "prefer", "return=minimal");
    let unchanged = with_header(request(Method::GET, "/v1/query?etag=%221f%22", ""), "if-none-match", "\"1f\"");
    for (request, code) in [(minimal, 204), (unchanged, 304)] {
        let response = gateway.send(request).await;
        assert_eq!((response.code, response.headers.get("content-length")), (code, None));
    }
}
