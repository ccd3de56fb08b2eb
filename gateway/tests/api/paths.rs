//! Paths: templates, variables, verbs, and what is bound nowhere.

use http::Method;
use serde_json::{Value, json};

use crate::support::{TestGateway, request};

/// The message that a GET of `path` made.
async fn got(path: &str) -> Value {
    TestGateway::start().await.get(path).await.ok()
}

#[tokio::test]
async fn a_variable_fills_its_field() {
    assert_eq!(got("/v1/texts/abc").await["text"], "abc");
}

#[tokio::test]
async fn a_literal_beats_a_variable() {
    assert_eq!(got("/v1/texts/special").await["text"], "");
}

#[tokio::test]
async fn a_variable_reaches_into_a_message() {
    let thing = got("/v1/children/a/of/b").await;
    assert_eq!((&thing["child"]["text"], &thing["text"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn a_variable_of_one_segment_is_wholly_decoded() {
    assert_eq!(got("/v1/texts/a%2Fb%20c%C3%A4").await["text"], "a/b cä");
    assert_eq!(got("/v1/wild/x/a%3Ab").await["text"], "a:b");
}

#[tokio::test]
async fn a_variable_of_several_segments_keeps_encoded_slashes() {
    assert_eq!(got("/v1/shelves/1/books/a%2Fb%20c").await["text"], "shelves/1/books/a%2Fb c");
    assert_eq!(got("/v1/files/a/b%2Fc/d%20e").await["text"], "a/b%2Fc/d e");
    assert_eq!(got("/v1/files").await["text"], "");
}

#[tokio::test]
async fn a_verb_selects_its_binding() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.post("/v1/files/a/b:touch", "").await.ok()["text"], "a/b");
    assert_eq!(gateway.get("/v1/shelves/1/books/2:read").await.ok()["text"], "shelves/1/books/2");
}

#[tokio::test]
async fn an_unknown_verb_belongs_to_the_segment() {
    assert_eq!(got("/v1/texts/a:b").await["text"], "a:b");
}

#[tokio::test]
async fn variables_may_be_of_other_types() {
    assert_eq!(got("/v1/numbers/-7").await["number"], -7);
    assert_eq!(got("/v1/colors/COLOR_RED").await["someColor"], "COLOR_RED");
    assert_eq!(got("/v1/times/2026-11-30T08:00:00Z").await["time"], "2026-11-30T08:00:00Z");
}

#[tokio::test]
async fn a_variable_of_another_type_is_refused_by_its_field() {
    let gateway = TestGateway::start().await;
    gateway.get("/v1/numbers/seven").await.assert_at_fault("number");
    gateway.get("/v1/colors/COLOR_GREEN").await.assert_at_fault("some_color");
    gateway.get("/v1/times/today").await.assert_at_fault("time");
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let gateway = TestGateway::start().await;
    for path in ["//", "/v1", "/v1/texts/", "/v1/texts/a/b", "/v2/texts/a", "/v1/shelves/1/books"] {
        gateway.get(path).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn what_has_no_binding_has_no_route() {
    let gateway = TestGateway::start().await;
    let answer = gateway.get("/test.v1.EchoService/Unbound").await;
    answer.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
}

#[tokio::test]
async fn another_method_is_refused_with_those_there_are() {
    let gateway = TestGateway::start().await;
    for method in [Method::POST, Method::OPTIONS] {
        let answer = gateway.send(request(method, "/v1/things/a", "")).await;
        answer.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(answer.header("allow"), "DELETE, PATCH, PUT");
    }
    let answer = gateway.post("/v1/texts/a", "").await;
    assert_eq!((answer.code, answer.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn head_answers_the_headers_of_get() {
    let gateway = TestGateway::start().await;
    let get = gateway.get("/v1/texts/a").await;
    let head = gateway.send(request(Method::HEAD, "/v1/texts/a", "")).await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    assert_eq!(head.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_path_in_bad_encoding_is_refused() {
    let gateway = TestGateway::start().await;
    for path in ["/v1/texts/%zz", "/v1/texts/%", "/v1/texts/%ff"] {
        gateway.get(path).await.assert_malformed();
    }
}

#[tokio::test]
async fn custom_methods_are_bound() {
    let gateway = TestGateway::start().await;
    let search = Method::from_bytes(b"SEARCH").unwrap();
    gateway.send(request(search, "/v1/custom?text=a", "")).await.ok();
    gateway.send(request(Method::TRACE, "/v1/custom/any", "")).await.ok();
    assert_eq!(gateway.get("/v1/custom").await.header("allow"), "SEARCH");
}
