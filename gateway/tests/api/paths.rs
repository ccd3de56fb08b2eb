//! Paths: templates, variables, verbs, and unknown paths.

use http::Method;
use serde_json::{Value, json};

use crate::support::{TestGateway, request};

/// Returns the echoed message of a GET.
async fn get(path: &str) -> Value {
    TestGateway::start().await.get(path).await.ok()
}

#[tokio::test]
async fn variable_sets_its_field() {
    assert_eq!(get("/v1/texts/abc").await["text"], "abc");
}

#[tokio::test]
async fn literal_takes_precedence_over_a_variable() {
    assert_eq!(get("/v1/texts/special").await["text"], "");
}

#[tokio::test]
async fn variable_sets_a_nested_field() {
    let thing = get("/v1/children/a/of/b").await;
    assert_eq!((&thing["child"]["text"], &thing["text"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn single_segment_variable_is_fully_decoded() {
    assert_eq!(get("/v1/texts/a%2Fb%20c%C3%A4").await["text"], "a/b cä");
    assert_eq!(get("/v1/wild/x/a%3Ab").await["text"], "a:b");
}

#[tokio::test]
async fn multi_segment_variable_keeps_encoded_slashes() {
    assert_eq!(get("/v1/shelves/1/books/a%2Fb%20c").await["text"], "shelves/1/books/a%2Fb c");
    assert_eq!(get("/v1/files/a/b%2Fc/d%20e").await["text"], "a/b%2Fc/d e");
    assert_eq!(get("/v1/files").await["text"], "");
}

#[tokio::test]
async fn verb_selects_its_binding() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.post("/v1/files/a/b:touch", "").await.ok()["text"], "a/b");
    assert_eq!(gateway.get("/v1/shelves/1/books/2:read").await.ok()["text"], "shelves/1/books/2");
}

#[tokio::test]
async fn unknown_verb_is_part_of_the_segment() {
    assert_eq!(get("/v1/texts/a:b").await["text"], "a:b");
}

#[tokio::test]
async fn variables_are_parsed_by_field_type() {
    assert_eq!(get("/v1/numbers/-7").await["number"], -7);
    assert_eq!(get("/v1/colors/COLOR_RED").await["someColor"], "COLOR_RED");
    assert_eq!(get("/v1/times/2026-11-30T08:00:00Z").await["time"], "2026-11-30T08:00:00Z");
}

#[tokio::test]
async fn variable_of_wrong_type_is_reported_with_its_field() {
    let gateway = TestGateway::start().await;
    gateway.get("/v1/numbers/seven").await.assert_invalid_field("number");
    gateway.get("/v1/colors/COLOR_GREEN").await.assert_invalid_field("some_color");
    gateway.get("/v1/times/today").await.assert_invalid_field("time");
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let gateway = TestGateway::start().await;
    for path in ["//", "/v1", "/v1/texts/", "/v1/texts/a/b", "/v2/texts/a", "/v1/shelves/1/books"] {
        gateway.get(path).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn rpc_without_a_binding_has_no_route() {
    let gateway = TestGateway::start().await;
    let response = gateway.get("/test.v1.EchoService/Unbound").await;
    response.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
}

#[tokio::test]
async fn wrong_method_is_405_with_the_allowed_methods() {
    let gateway = TestGateway::start().await;
    for method in [Method::POST, Method::OPTIONS] {
        let response = gateway.send(request(method, "/v1/things/a", "")).await;
        response.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(response.header("allow"), "DELETE, PATCH, PUT");
    }
    let response = gateway.post("/v1/texts/a", "").await;
    assert_eq!((response.code, response.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn head_returns_the_headers_of_get() {
    let gateway = TestGateway::start().await;
    let get = gateway.get("/v1/texts/a").await;
    let head = gateway.send(request(Method::HEAD, "/v1/texts/a", "")).await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    assert_eq!(head.header("content-type"), "application/json");
}

#[tokio::test]
async fn invalid_percent_encoding_is_malformed() {
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
