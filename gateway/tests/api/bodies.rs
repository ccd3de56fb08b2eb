//! JSON bodies of requests and responses.

use http::{HeaderName, HeaderValue, Method, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{LIMITS, Reply, TestGateway, TestResponse, request};

async fn post(body: &str) -> TestResponse {
    TestGateway::start().await.post("/v1/whole", body).await
}

/// Posts a body and returns one field of the echoed message.
async fn echoed_field(body: &Value, name: &str) -> Value {
    post(&body.to_string()).await.ok()[name].clone()
}

#[tokio::test]
async fn json_and_proto_names_are_accepted() {
    assert_eq!(echoed_field(&json!({"longNumber": 5}), "longNumber").await, "5");
    assert_eq!(echoed_field(&json!({"long_number": "5"}), "longNumber").await, "5");
}

#[tokio::test]
async fn every_field_type_round_trips() {
    let thing = json!({
        "text": "a\u{e4}\u{1f600}", "texts": ["b", ""], "number": -3, "longNumber": "-9007199254740993",
        "unsignedNumber": "18446744073709551615", "real": 1.5, "flag": true, "data": "+/8=",
        "someColor": "COLOR_BLUE", "colors": ["COLOR_RED", "COLOR_UNSPECIFIED"], "child": {"child": {"text": "c"}},
        "children": [{"number": 1}, {}], "counts": {"x": 1, "": 2}, "things": {"-4": {"text": "t"}},
        "maybeText": "", "left": "", "time": "2026-11-30T08:00:00.000001Z", "span": "-1.500s",
        "mask": "displayName,a.bC", "wrappedText": "", "wrappedNumber": "0",
        "struct": {"a": [1.5, null, {"b": true}]}, "anyValue": [null, "x"],
        "any": {"@type": "type.googleapis.com/test.v1.ThingRequest", "note": "n"}, "empty": {},
        "times": ["1970-01-01T00:00:00Z"],
    });
    let response = post(&thing.to_string()).await.ok();
    for (name, value) in thing.as_object().unwrap() {
        assert_contains(&response[name], value, name);
    }
}

/// Asserts that `actual` contains the fields of `expected`. Responses also contain fields with default values.
fn assert_contains(actual: &Value, expected: &Value, path: &str) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            for (key, value) in expected {
                assert_contains(&actual[key], value, &format!("{path}.{key}"));
            }
        }
        (Value::Array(actual), Value::Array(expected)) => {
            assert_eq!(actual.len(), expected.len(), "{path}");
            std::iter::zip(actual, expected).for_each(|(actual, expected)| assert_contains(actual, expected, path));
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

#[tokio::test]
async fn defaults_are_written_and_absent_messages_omitted() {
    let response = post("{}").await;
    let thing = response.ok();
    assert_eq!((&thing["text"], &thing["number"], &thing["longNumber"]), (&json!(""), &json!(0), &json!("0")));
    assert_eq!((&thing["texts"], &thing["counts"]), (&json!([]), &json!({})));
    assert_eq!(thing["someColor"], "COLOR_UNSPECIFIED");
    for name in ["child", "time", "maybeText", "left", "right", "wrappedText", "any"] {
        assert_eq!(thing.get(name), None, "{name}");
    }
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "no-store");
}

#[tokio::test]
async fn null_leaves_a_field_unset() {
    let response = post(r#"{"text":null,"child":null,"texts":null,"counts":null,"left":null,"right":3}"#).await.ok();
    assert_eq!((&response["text"], response.get("child"), &response["right"]), (&json!(""), None, &json!(3)));
    assert_eq!(echoed_field(&json!({"anyValue": null}), "anyValue").await, Value::Null);
}

#[tokio::test]
async fn missing_body_is_an_empty_message() {
    assert_eq!(post("").await.ok()["text"], "");
    assert_eq!(TestGateway::start().await.post("/v1/things", "").await.ok().get("thing"), None);
}

#[tokio::test]
async fn invalid_json_is_malformed() {
    for body in ["{", "{} {}", "{'text':1}", r#"{"text":"a",}"#, "nothing", "\"\\ud800\"", "{\"text\":\"\n\"}", "01"] {
        post(body).await.assert_malformed();
    }
}

#[tokio::test]
async fn invalid_utf8_is_malformed() {
    let gateway = TestGateway::start().await;
    let body = Full::from(b"{\"text\":\"\xff\"}".to_vec());
    let response = gateway.send(request(Method::POST, "/v1/whole", "").map(|_| body)).await;
    response.assert_malformed();
}

#[tokio::test]
async fn body_must_be_an_object() {
    for body in ["[]", "1", "\"a\"", "null"] {
        post(body).await.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &[]);
    }
}

#[tokio::test]
async fn unknown_field_is_reported_with_its_path() {
    post(r#"{"nothing":1}"#).await.assert_invalid_field("nothing");
    post(r#"{"child":{"Text":1}}"#).await.assert_invalid_field("child.Text");
    post(r#"{"children":[{},{"x":1}]}"#).await.assert_invalid_field("children[1].x");
    post(r#"{"things":{"7":{"x":1}}}"#).await.assert_invalid_field("things[7].x");
    post(r#"{"":1}"#).await.assert_invalid_field("\"\"");
}

#[tokio::test]
async fn duplicate_field_is_rejected() {
    post(r#"{"text":"a","text":"a"}"#).await.assert_invalid_field("text");
    post(r#"{"text":null,"text":"a"}"#).await.assert_invalid_field("text");
    post(r#"{"child":{"longNumber":1,"long_number":1}}"#).await.assert_invalid_field("child.long_number");
    post(r#"{"counts":{"a":1,"a":2}}"#).await.assert_invalid_field("counts[a]");
    post(r#"{"things":{"1":{},"1":{}}}"#).await.assert_invalid_field("things[1]");
    post(r#"{"struct":{"a":{"b":1,"b":1}}}"#).await.assert_invalid_field("struct.a.b");
}

#[tokio::test]
async fn two_members_of_a_oneof_are_rejected() {
    post(r#"{"left":"a","right":1}"#).await.assert_invalid_field("right");
}

#[tokio::test]
async fn value_of_wrong_type_is_reported_with_its_path() {
    for (body, path) in [
        (r#"{"text":1}"#, "text"),
        (r#"{"texts":"a"}"#, "texts"),
        (r#"{"texts":["a",null]}"#, "texts[1]"),
        (r#"{"number":1.5}"#, "number"),
        (r#"{"number":2147483648}"#, "number"),
        (r#"{"unsignedNumber":-1}"#, "unsigned_number"),
        (r#"{"flag":"true"}"#, "flag"),
        (r#"{"data":"*"}"#, "data"),
        (r#"{"someColor":"RED"}"#, "some_color"),
        (r#"{"someColor":1.5}"#, "some_color"),
        (r#"{"colors":["COLOR_RED","COLOR_GREEN"]}"#, "colors[1]"),
        (r#"{"child":[]}"#, "child"),
        (r#"{"child":{"child":{"number":{}}}}"#, "child.child.number"),
        (r#"{"counts":[]}"#, "counts"),
        (r#"{"counts":{"a":"x"}}"#, "counts[a]"),
        (r#"{"counts":{"a":null}}"#, "counts[a]"),
        (r#"{"things":{"a":{}}}"#, "things[a]"),
        (r#"{"time":"2026-11-30"}"#, "time"),
        (r#"{"time":{"seconds":1}}"#, "time"),
        (r#"{"time":"10000-01-01T00:00:00Z"}"#, "time"),
        (r#"{"times":["x"]}"#, "times[0]"),
        (r#"{"span":"1h"}"#, "span"),
        (r#"{"mask":["text"]}"#, "mask"),
        (r#"{"mask":"a,,b"}"#, "mask"),
        (r#"{"wrappedNumber":"x"}"#, "wrapped_number"),
        (r#"{"struct":[]}"#, "struct"),
        (r#"{"any":{"@type":"type.googleapis.com/nothing"}}"#, "any"),
        (r#"{"empty":{"a":1}}"#, "empty"),
    ] {
        post(body).await.assert_invalid_field(path);
    }
}

#[tokio::test]
async fn error_contains_neither_the_value_nor_a_rust_type() {
    let response = post(r#"{"number":"hunter2"}"#).await;
    assert!(!response.text.contains("hunter2") && !response.text.contains("i32"), "{response:?}");
    let response = post(r#"{"text":"hunter2"#).await;
    assert!(!response.text.contains("hunter2"), "{response:?}");
}

#[tokio::test]
async fn violation_paths_start_with_the_body_field() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/things", r#"{"nothing":1}"#).await.assert_invalid_field("thing.nothing");
    gateway.post("/v1/things", r#"{"longNumber":"x"}"#).await.assert_invalid_field("thing.long_number");
    gateway.post("/v1/things", "[]").await.assert_invalid_field("thing");
}

#[tokio::test]
async fn request_and_response_body_can_be_a_repeated_field() {
    let gateway = TestGateway::start().await;
    let response = gateway.send(request(Method::PUT, "/v1/list", r#"["a","b"]"#)).await;
    assert_eq!(response.ok(), json!(["a", "b"]));
    assert_eq!(gateway.send(request(Method::PUT, "/v1/list", "")).await.ok(), json!([]));
}

#[tokio::test]
async fn response_body_can_be_a_nested_message() {
    let gateway = TestGateway::start().await;
    let child = gateway.get("/v1/child?child.text=a").await.ok();
    assert_eq!((&child["text"], &child["number"]), (&json!("a"), &json!(0)));
    assert_eq!(gateway.get("/v1/child").await.ok(), Value::Null);
}

#[tokio::test]
async fn body_that_contradicts_the_path_is_rejected() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/whole/path", r#"{"text":"body","number":1}"#).await.assert_invalid_field("text");
    gateway.patch("/v1/things/path", r#"{"text":"body","number":1}"#).await.assert_invalid_field("thing.text");
    assert!(!gateway.backend.was_called());
}

#[tokio::test]
async fn body_can_repeat_the_path() {
    for body in [r#"{"text":"path","number":1}"#, r#"{"text":"","number":1}"#, r#"{"text":null,"number":1}"#] {
        let response = TestGateway::start().await.post("/v1/whole/path", body).await.ok();
        assert_eq!((&response["text"], &response["number"]), (&json!("path"), &json!(1)), "{body}");
    }
}

#[tokio::test]
async fn unexpected_body_is_rejected() {
    let gateway = TestGateway::start().await;
    for body in ["{}", "x"] {
        gateway.send(request(Method::GET, "/v1/query", body)).await.assert_malformed();
        gateway.send(request(Method::DELETE, "/v1/things/a", body)).await.assert_malformed();
    }
}

#[tokio::test]
async fn body_over_the_limit_is_413() {
    let body = |length: usize| format!(r#"{{"text":"{}"}}"#, "a".repeat(length - 11));
    post(&body(LIMITS.max_bytes)).await.ok();
    let response = post(&body(LIMITS.max_bytes + 1)).await;
    response.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
}

#[tokio::test]
async fn body_nested_over_the_limit_is_reported_with_its_field() {
    let nested = |depth: usize| format!("{}{}", "{\"child\":".repeat(depth - 1) + "{}", "}".repeat(depth - 1));
    post(&nested(LIMITS.max_depth)).await.ok();
    let response = post(&nested(LIMITS.max_depth + 1)).await;
    response.assert_invalid_field(vec!["child"; LIMITS.max_depth].join(".").as_str());
    let list = format!(r#"{{"anyValue":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    assert_eq!(post(&list).await.code, 400);
    post(&"[".repeat(2000)).await.assert_malformed();
}

#[tokio::test]
async fn content_type_must_be_json_in_utf8() {
    let gateway = TestGateway::start().await;
    let send = async |content_type: &'static str| {
        let mut request = request(Method::POST, "/v1/whole", "{}");
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        gateway.send(request).await
    };
    for valid in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        send(valid).await.ok();
    }
    for invalid in
        ["application/x-www-form-urlencoded", "text/json", "application/json; charset=utf-16", "", "application/grpcs"]
    {
        send(invalid).await.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
}

#[tokio::test]
async fn response_that_json_cannot_represent_is_internal() {
    // `time` with seconds far beyond year 9999.
    let time = [&[0x92, 0x01, 0x07, 0x08][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    let gateway = TestGateway::start_with(Reply::Message(time)).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn undecodable_response_is_internal() {
    let gateway = TestGateway::start_with(Reply::Message(vec![0xff; 9])).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn response_over_the_limit_is_internal() {
    let gateway = TestGateway::start_with(Reply::Message(vec![0; 200_000])).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn response_has_the_nosniff_header() {
    let name = HeaderName::from_static("x-content-type-options");
    assert_eq!(post("{}").await.headers.get(name).unwrap(), "nosniff");
}
