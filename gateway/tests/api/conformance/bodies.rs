//! Which part of a message a body is, in both directions.

use http::Method;
use serde_json::{Value, json};

use super::transcoder::Transcoder;
use crate::support::Answer;

async fn send(method: &str, path: &str, body: &str) -> Answer {
    Transcoder::start().await.send(method.parse().unwrap(), path, body).await
}

#[tokio::test]
async fn a_body_is_the_field_that_the_binding_names() {
    for (method, path, body, field, made) in [
        ("POST", "/b/scalar", "\"x\"", "note", json!("x")),
        ("POST", "/b/number", "\"9223372036854775807\"", "number", json!("9223372036854775807")),
        ("POST", "/b/number", "7", "number", json!("7")),
        ("PUT", "/b/list", "[\"a\",\"b\"]", "notes", json!(["a", "b"])),
        ("PUT", "/b/map", r#"{"a":1}"#, "counts", json!({"a": "1"})),
        ("POST", "/b/scalar", "", "note", json!("")),
        ("POST", "/b/scalar", "null", "note", json!("")),
    ] {
        assert_eq!(send(method, path, body).await.ok()[field], made, "{method} {path} {body}");
    }
    assert_eq!(send("POST", "/b/message", r#"{"aString":"x"}"#).await.ok()["item"]["aString"], "x");
    assert_eq!(send("POST", "/b/message", "").await.ok().get("item"), None);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_at_its_field() {
    for (method, path, body, at) in [
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
        send(method, path, body).await.assert_at_fault(at);
    }
}

#[tokio::test]
async fn what_is_not_in_the_body_is_in_the_query() {
    let made = send("POST", "/b/message?note=n&notes=a&notes=b&number=7", "{}").await.ok();
    assert_eq!((&made["note"], &made["notes"], &made["number"]), (&json!("n"), &json!(["a", "b"]), &json!("7")));
    send("POST", "/b/message?item.aString=x", "{}").await.assert_at_fault("item.a_string");
    send("POST", "/b/message?item.aString=x", "").await.assert_at_fault("item.a_string");
    send("POST", "/b/scalar?note=x", "\"y\"").await.assert_at_fault("note");
    let made = send("POST", "/b/none?note=n&item.aString=x", "").await.ok();
    assert_eq!((&made["note"], &made["item"]["aString"]), (&json!("n"), &json!("x")));
}

#[tokio::test]
async fn a_star_takes_all_that_the_path_does_not() {
    let made = send("POST", "/b/whole/n", r#"{"notes":["a"],"item":{"aBool":true}}"#).await.ok();
    assert_eq!((&made["note"], &made["notes"], &made["item"]["aBool"]), (&json!("n"), &json!(["a"]), &json!(true)));
    send("POST", "/b/whole/n?number=1", "{}").await.assert_at_fault("number");
    send("POST", "/b/whole/n?note=n", "{}").await.assert_at_fault("note");
}

#[tokio::test]
async fn a_body_that_contradicts_the_path_is_refused() {
    for (method, path, body, at) in [
        ("POST", "/b/whole/n", r#"{"note":"m"}"#, "note"),
        ("PUT", "/b/message/a", r#"{"aString":"b"}"#, "item.a_string"),
        ("PATCH", "/b/message/a", r#"{"a_string":"b","aBool":true}"#, "item.a_string"),
    ] {
        send(method, path, body).await.assert_at_fault(at);
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
async fn a_binding_without_a_body_takes_none() {
    for (method, path) in [("POST", "/b/none"), ("GET", "/v1/query"), ("GET", "/r/scalar")] {
        for body in ["{}", "null", " "] {
            send(method, path, body).await.assert_malformed();
        }
    }
}

#[tokio::test]
async fn an_answer_is_the_field_that_the_binding_names() {
    for (path, answer) in [
        ("/r/scalar?note=x", json!("x")),
        ("/r/scalar", json!("")),
        ("/r/number?number=9223372036854775807", json!("9223372036854775807")),
        ("/r/list?notes=a&notes=b", json!(["a", "b"])),
        ("/r/list", json!([])),
        ("/r/message", Value::Null),
    ] {
        assert_eq!(send("GET", path, "").await.ok(), answer, "{path}");
    }
    assert_eq!(send("POST", "/r/map", r#"{"a":1}"#).await.ok(), json!({"a": "1"}));
    let message = send("GET", "/r/message?item.aString=x", "").await.ok();
    assert_eq!((&message["aString"], &message["anInt32"]), (&json!("x"), &json!(0)));
}

#[tokio::test]
async fn additional_bindings_have_bodies_of_their_own() {
    let acted = Transcoder::start().await.send(Method::POST, "/t/one/a:act", r#"{"aBool":true}"#).await.ok();
    assert_eq!((&acted["aString"], &acted["aBool"]), (&json!("a"), &json!(true)));
    send("POST", "/t/rest/a:act", r#"{"aBool":true}"#).await.assert_malformed();
    assert_eq!(send("POST", "/t/rest/a:act?aBool=true", "").await.ok()["aBool"], true);
}
