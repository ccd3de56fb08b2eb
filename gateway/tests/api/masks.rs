//! The field mask of a PATCH.

use http::Method;
use serde_json::Value;

use crate::support::{TestGateway, request};

/// Returns the mask that the backend receives for a PATCH of a thing. It is marked as derived, unless the query contains it.
async fn mask(query: &str, body: &str) -> Value {
    let gateway = TestGateway::start().await;
    let response = gateway.patch(&format!("/v1/things/a{query}"), body).await.ok();
    assert_eq!(response["thing"]["text"], "a");
    let mask = response["updateMask"].clone();
    let is_derived = gateway.backend.call().metadata.contains_key("taskey-derived-mask");
    assert_eq!(is_derived, query.is_empty() && !mask.is_null());
    mask
}

#[tokio::test]
async fn mask_consists_of_the_keys_of_the_body() {
    assert_eq!(mask("", r#"{"number":1,"long_number":2,"maybeText":"x"}"#).await, "number,longNumber,maybeText");
}

#[tokio::test]
async fn keys_with_null_or_default_values_are_in_the_mask() {
    assert_eq!(mask("", r#"{"number":0,"time":null,"texts":[],"child":null}"#).await, "number,time,texts,child");
}

#[tokio::test]
async fn mask_contains_the_fields_of_nested_messages() {
    let body = r#"{"child":{"text":"b","child":{"number":1},"time":"1970-01-01T00:00:00Z"}}"#;
    assert_eq!(mask("", body).await, "child.text,child.child.number,child.time");
    assert_eq!(mask("", r#"{"child":{}}"#).await, "child");
}

#[tokio::test]
async fn lists_maps_and_well_known_types_are_masked_as_a_whole() {
    let body = r#"{"children":[{"text":"b"}],"counts":{"x":1},"things":{"1":{}},"struct":{"a":1},"wrappedText":"w"}"#;
    assert_eq!(mask("", body).await, "children,counts,things,struct,wrappedText");
}

#[tokio::test]
async fn etag_and_path_fields_are_not_in_the_mask() {
    assert_eq!(mask("", r#"{"etag":"e","text":"a","number":1}"#).await, "number");
}

#[tokio::test]
async fn nested_etag_is_in_the_mask() {
    assert_eq!(mask("", r#"{"child":{"etag":"e","text":"b"}}"#).await, "child.etag,child.text");
}

#[tokio::test]
async fn body_without_keys_sets_no_mask() {
    for body in ["", "{}", r#"{"etag":"e"}"#] {
        assert_eq!(mask("", body).await, Value::Null, "{body}");
    }
}

#[tokio::test]
async fn mask_in_the_query_takes_precedence() {
    assert_eq!(mask("?update_mask=number,maybe_text", r#"{"flag":true}"#).await, "number,maybeText");
    assert_eq!(mask("?updateMask=*", r#"{"flag":true}"#).await, "*");
    assert_eq!(mask("?updateMask=", r#"{"flag":true}"#).await, "");
}

#[tokio::test]
async fn put_sets_no_mask() {
    let gateway = TestGateway::start().await;
    let response = gateway.send(request(Method::PUT, "/v1/things/a", r#"{"number":1}"#)).await.ok();
    assert_eq!(response.get("updateMask"), None);
}
