//! The `body` and `response_body` of a binding.

use http::Method;
use serde_json::{Value, json};

use super::transcoder::Transcoder;
use crate::support::TestResponse;

async fn send(method: &str, path: &str, body: &str) -> TestResponse {
    Transcoder::start().await.send(method.parse().unwrap(), path, body).await
}

#[tokio::test]
async fn body_is_the_field_of_the_binding() {
    for (method, path, body, field, expected) in [
        ("POST", "/b/scalar", "\"x\"", "note", json!("x")),
        ("POST", "/b/number", "\"9223372036854775807\"", "number", json!("9223372036854775807")),
        ("POST", "/b/number", "7", "number", json!("7")),
        ("PUT", "/b/list", "[\"a\",\"b\"]", "notes", json!(["a", "b"])),
        ("PUT", "/b/map", r#"{"a":1}"#, "counts", json!({"a": "1"})),
        ("POST", "/b/scalar", "", "note", json!("")),
        ("POST", "/b/scalar", "null", "note", json!("")),
    ] {
        assert_eq!(send(method, path, body).await.ok()[field], expected, "{method} {path} {body}");
    }
    assert_eq!(send("POST", "/b/message", r#"{"aString":"x"}"#).await.ok()["item"]["aString"], "x");
    assert_eq!(send("POST", "/b/message", "").await.ok().get("item"), None);
}

#[tokio::test]
async fn body_of_wrong_type_is_reported_with_its_field() {
    for (method, path, body, field) in [
        ("POST", "/b/scalar", "1", "note"),
        ("POST", "/b/number", "\"x\"", "number"),
        ("PUT", "/b/list", "{}", "notes"),
        ("PUT", "/b/list", "[1]", "notes[0]"),
        ("PUT", "/b/map", "[]", "counts"),
        ("PUT", "/b/map", r#"{"a":"x"}"#, "counts[a]"),
        ("PUT", "/b/map", r#"{"a":1,"a":1}"#, "counts[a]"),
        ("POST", "/b/message", "[]", "item"),
        ("POST", "/b/message", r#"{"item":{}}"#, "item.item"),
    ] {
        send(method, path, body).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn fields_outside_the_body_are_query_parameters() {
    let message = send("POST", "/b/message?note=n&notes=a&notes=b&number=7", "{}").await.ok();
    assert_eq!(
        (&message["note"], &message["notes"], &message["number"]),
        (&json!("n"), &json!(["a", "b"]), &json!("7"))
    );
    send("POST", "/b/message?item.aString=x", "{}").await.assert_invalid_field("item.a_string");
    send("POST", "/b/message?item.aString=x", "").await.assert_invalid_field("item.a_string");
    send("POST", "/b/scalar?note=x", "\"y\"").await.assert_invalid_field("note");
    let message = send("POST", "/b/none?note=n&item.aString=x", "").await.ok();
    assert_eq!((&message["note"], &message["item"]["aString"]), (&json!("n"), &json!("x")));
}

#[tokio::test]
async fn star_body_contains_all_fields_outside_the_path() {
    let message = send("POST", "/b/whole/n", r#"{"notes":["a"],"item":{"aBool":true}}"#).await.ok();
    assert_eq!(
        (&message["note"], &message["notes"], &message["item"]["aBool"]),
        (&json!("n"), &json!(["a"]), &json!(true))
    );
    send("POST", "/b/whole/n?number=1", "{}").await.assert_invalid_field("number");
    send("POST", "/b/whole/n?note=n", "{}").await.assert_invalid_field("note");
}

#[tokio::test]
async fn body_that_contradicts_the_path_is_rejected() {
    for (method, path, body, field) in [
        ("POST", "/b/whole/n", r#"{"note":"m"}"#, "note"),
        ("PUT", "/b/message/a", r#"{"aString":"b"}"#, "item.a_string"),
        ("PATCH", "/b/message/a", r#"{"a_string":"b","aBool":true}"#, "item.a_string"),
    ] {
        send(method, path, body).await.assert_invalid_field(field);
    }
    for (method, path, body) in [
        ("POST", "/b/whole/n", r#"{"note":"n"}"#),
        ("PUT", "/b/message/a%20b", r#"{"aString":"a b"}"#),
        ("PATCH", "/b/message/a", r#"{"aString":null}"#),
    ] {
        send(method, path, body).await.ok();
    }
}

#[tokio::test]
async fn body_is_rejected_by_a_binding_without_a_body() {
    for (method, path) in [("POST", "/b/none"), ("GET", "/v1/query"), ("GET", "/r/scalar")] {
        for body in ["{}", "null", " "] {
            send(method, path, body).await.assert_malformed();
        }
    }
}

#[tokio::test]
async fn response_body_is_the_field_of_the_binding() {
    for (path, expected) in [
        ("/r/scalar?note=x", json!("x")),
        ("/r/scalar", json!("")),
        ("/r/number?number=9223372036854775807", json!("9223372036854775807")),
        ("/r/list?notes=a&notes=b", json!(["a", "b"])),
        ("/r/list", json!([])),
        ("/r/message", Value::Null),
    ] {
        assert_eq!(send("GET", path, "").await.ok(), expected, "{path}");
    }
    assert_eq!(send("POST", "/r/map", r#"{"a":1}"#).await.ok(), json!({"a": "1"}));
    let message = send("GET", "/r/message?item.aString=x", "").await.ok();
    assert_eq!((&message["aString"], &message["anInt32"]), (&json!("x"), &json!(0)));
}

#[tokio::test]
async fn additional_bindings_have_their_own_body_rules() {
    let message = Transcoder::start().await.send(Method::POST, "/t/one/a:act", r#"{"aBool":true}"#).await.ok();
    assert_eq!((&message["aString"], &message["aBool"]), (&json!("a"), &json!(true)));
    send("POST", "/t/rest/a:act", r#"{"aBool":true}"#).await.assert_malformed();
    assert_eq!(send("POST", "/t/rest/a:act?aBool=true", "").await.ok()["aBool"], true);
}
