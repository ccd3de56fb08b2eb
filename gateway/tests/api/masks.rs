//! The field mask of a PATCH.

use http::Method;
use serde_json::Value;

use crate::support::{TestGateway, request};

/// The mask that the PATCH of a thing made.
async fn mask(query: &str, body: &str) -> Value {
    let gateway = TestGateway::start().await;
    let answer = gateway.patch(&format!("/v1/things/a{query}"), body).await.ok();
    assert_eq!(answer["thing"]["text"], "a");
    answer["updateMask"].clone()
}

#[tokio::test]
async fn the_keys_of_the_body_are_the_mask() {
    assert_eq!(mask("", r#"{"number":1,"long_number":2,"maybeText":"x"}"#).await, "number,longNumber,maybeText");
}

#[tokio::test]
async fn a_key_with_null_or_a_default_is_in_the_mask() {
    assert_eq!(mask("", r#"{"number":0,"time":null,"texts":[],"child":null}"#).await, "number,time,texts,child");
}

#[tokio::test]
async fn a_message_goes_down_to_its_fields() {
    let body = r#"{"child":{"text":"b","child":{"number":1},"time":"1970-01-01T00:00:00Z"}}"#;
    assert_eq!(mask("", body).await, "child.text,child.child.number,child.time");
    assert_eq!(mask("", r#"{"child":{}}"#).await, "child");
}

#[tokio::test]
async fn lists_maps_and_well_known_types_are_taken_whole() {
    let body = r#"{"children":[{"text":"b"}],"counts":{"x":1},"things":{"1":{}},"struct":{"a":1},"wrappedText":"w"}"#;
    assert_eq!(mask("", body).await, "children,counts,things,struct,wrappedText");
}

#[tokio::test]
async fn etag_and_what_the_path_gives_are_no_part_of_the_mask() {
    assert_eq!(mask("", r#"{"etag":"e","text":"a","number":1}"#).await, "number");
}

#[tokio::test]
async fn an_etag_further_down_is_part_of_the_mask() {
    assert_eq!(mask("", r#"{"child":{"etag":"e","text":"b"}}"#).await, "child.etag,child.text");
}

#[tokio::test]
async fn a_body_without_keys_makes_no_mask_and_sets_nothing() {
    for body in ["", "{}", r#"{"etag":"e"}"#] {
        assert_eq!(mask("", body).await, Value::Null, "{body}");
    }
}

#[tokio::test]
async fn a_mask_in_the_query_stands() {
    assert_eq!(mask("?update_mask=number,maybe_text", r#"{"flag":true}"#).await, "number,maybeText");
    assert_eq!(mask("?updateMask=*", r#"{"flag":true}"#).await, "*");
    assert_eq!(mask("?updateMask=", r#"{"flag":true}"#).await, "");
}

#[tokio::test]
async fn another_method_makes_no_mask() {
    let gateway = TestGateway::start().await;
    let answer = gateway.send(request(Method::PUT, "/v1/things/a", r#"{"number":1}"#)).await.ok();
    assert_eq!(answer.get("updateMask"), None);
}
