//! JSON bodies in and out.

use http::{HeaderName, HeaderValue, Method, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, LIMITS, Reply, TestGateway, request};

async fn whole(body: &str) -> Answer {
    TestGateway::start().await.post("/v1/whole", body).await
}

/// A field of the message that the body made, as the answer shows it.
async fn field(body: &Value, name: &str) -> Value {
    whole(&body.to_string()).await.ok()[name].clone()
}

#[tokio::test]
async fn both_spellings_are_taken() {
    assert_eq!(field(&json!({"longNumber": 5}), "longNumber").await, "5");
    assert_eq!(field(&json!({"long_number": "5"}), "longNumber").await, "5");
}

#[tokio::test]
async fn every_kind_of_field_goes_there_and_back() {
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
    let answer = whole(&thing.to_string()).await.ok();
    for (name, value) in thing.as_object().unwrap() {
        contains(&answer[name], value, name);
    }
}

/// Asserts that `found` has all that `expected` has; defaults are added in answers.
fn contains(found: &Value, expected: &Value, at: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, value) in expected {
                contains(&found[key], value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{at}");
            std::iter::zip(found, expected).for_each(|(found, expected)| contains(found, expected, at));
        }
        _ => assert_eq!(found, expected, "{at}"),
    }
}

#[tokio::test]
async fn defaults_are_emitted_and_absent_messages_left_out() {
    let answer = whole("{}").await;
    let thing = answer.ok();
    assert_eq!((&thing["text"], &thing["number"], &thing["longNumber"]), (&json!(""), &json!(0), &json!("0")));
    assert_eq!((&thing["texts"], &thing["counts"]), (&json!([]), &json!({})));
    assert_eq!(thing["someColor"], "COLOR_UNSPECIFIED");
    for name in ["child", "time", "maybeText", "left", "right", "wrappedText", "any"] {
        assert_eq!(thing.get(name), None, "{name}");
    }
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn null_is_no_value() {
    let answer = whole(r#"{"text":null,"child":null,"texts":null,"counts":null,"left":null,"right":3}"#).await.ok();
    assert_eq!((&answer["text"], answer.get("child"), &answer["right"]), (&json!(""), None, &json!(3)));
    assert_eq!(field(&json!({"anyValue": null}), "anyValue").await, Value::Null);
}

#[tokio::test]
async fn no_body_is_an_empty_message() {
    assert_eq!(whole("").await.ok()["text"], "");
    assert_eq!(TestGateway::start().await.post("/v1/things", "").await.ok().get("thing"), None);
}

#[tokio::test]
async fn what_is_no_json_is_malformed() {
    for body in ["{", "{} {}", "{'text':1}", r#"{"text":"a",}"#, "nothing", "\"\\ud800\"", "{\"text\":\"\n\"}", "01"] {
        whole(body).await.assert_malformed();
    }
}

#[tokio::test]
async fn invalid_utf8_is_malformed() {
    let gateway = TestGateway::start().await;
    let body = Full::from(b"{\"text\":\"\xff\"}".to_vec());
    let answer = gateway.send(request(Method::POST, "/v1/whole", "").map(|_| body)).await;
    answer.assert_malformed();
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    for body in ["[]", "1", "\"a\"", "null"] {
        whole(body).await.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &[]);
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_its_path() {
    whole(r#"{"nothing":1}"#).await.assert_at_fault("nothing");
    whole(r#"{"child":{"Text":1}}"#).await.assert_at_fault("child.Text");
    whole(r#"{"children":[{},{"x":1}]}"#).await.assert_at_fault("children[1].x");
    whole(r#"{"things":{"7":{"x":1}}}"#).await.assert_at_fault("things[7].x");
    whole(r#"{"":1}"#).await.assert_at_fault("\"\"");
}

#[tokio::test]
async fn a_field_given_twice_is_refused() {
    whole(r#"{"text":"a","text":"a"}"#).await.assert_at_fault("text");
    whole(r#"{"text":null,"text":"a"}"#).await.assert_at_fault("text");
    whole(r#"{"child":{"longNumber":1,"long_number":1}}"#).await.assert_at_fault("child.long_number");
    whole(r#"{"counts":{"a":1,"a":2}}"#).await.assert_at_fault("counts[a]");
    whole(r#"{"things":{"1":{},"1":{}}}"#).await.assert_at_fault("things[1]");
    whole(r#"{"struct":{"a":{"b":1,"b":1}}}"#).await.assert_at_fault("struct.a.b");
}

#[tokio::test]
async fn two_fields_of_a_oneof_are_refused() {
    whole(r#"{"left":"a","right":1}"#).await.assert_at_fault("right");
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_by_its_path() {
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
        whole(body).await.assert_at_fault(path);
    }
}

#[tokio::test]
async fn a_refusal_repeats_neither_the_value_nor_a_type_of_rust() {
    let answer = whole(r#"{"number":"hunter2"}"#).await;
    assert!(!answer.text.contains("hunter2") && !answer.text.contains("i32"), "{answer:?}");
    let answer = whole(r#"{"text":"hunter2"#).await;
    assert!(!answer.text.contains("hunter2"), "{answer:?}");
}

#[tokio::test]
async fn the_paths_of_a_body_field_start_with_its_name() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/things", r#"{"nothing":1}"#).await.assert_at_fault("thing.nothing");
    gateway.post("/v1/things", r#"{"longNumber":"x"}"#).await.assert_at_fault("thing.long_number");
    gateway.post("/v1/things", "[]").await.assert_at_fault("thing");
}

#[tokio::test]
async fn a_body_may_be_a_repeated_field_and_so_may_an_answer() {
    let gateway = TestGateway::start().await;
    let answer = gateway.send(request(Method::PUT, "/v1/list", r#"["a","b"]"#)).await;
    assert_eq!(answer.ok(), json!(["a", "b"]));
    assert_eq!(gateway.send(request(Method::PUT, "/v1/list", "")).await.ok(), json!([]));
}

#[tokio::test]
async fn an_answer_may_be_a_message_in_the_response() {
    let gateway = TestGateway::start().await;
    let child = gateway.get("/v1/child?child.text=a").await.ok();
    assert_eq!((&child["text"], &child["number"]), (&json!("a"), &json!(0)));
    assert_eq!(gateway.get("/v1/child").await.ok(), Value::Null);
}

#[tokio::test]
async fn a_body_that_contradicts_the_path_is_refused() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/whole/path", r#"{"text":"body","number":1}"#).await.assert_at_fault("text");
    gateway.patch("/v1/things/path", r#"{"text":"body","number":1}"#).await.assert_at_fault("thing.text");
    assert!(!gateway.backend.was_called());
}

#[tokio::test]
async fn a_body_may_repeat_the_path() {
    for body in [r#"{"text":"path","number":1}"#, r#"{"text":"","number":1}"#, r#"{"text":null,"number":1}"#] {
        let answer = TestGateway::start().await.post("/v1/whole/path", body).await.ok();
        assert_eq!((&answer["text"], &answer["number"]), (&json!("path"), &json!(1)), "{body}");
    }
}

#[tokio::test]
async fn a_body_where_none_is_taken_is_refused() {
    let gateway = TestGateway::start().await;
    for body in ["{}", "x"] {
        gateway.send(request(Method::GET, "/v1/query", body)).await.assert_malformed();
        gateway.send(request(Method::DELETE, "/v1/things/a", body)).await.assert_malformed();
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_too_large() {
    let body = |length: usize| format!(r#"{{"text":"{}"}}"#, "a".repeat(length - 11));
    whole(&body(LIMITS.max_bytes)).await.ok();
    let answer = whole(&body(LIMITS.max_bytes + 1)).await;
    answer.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
}

#[tokio::test]
async fn a_body_nested_beyond_the_limit_is_refused_by_its_field() {
    let nested = |depth: usize| format!("{}{}", "{\"child\":".repeat(depth - 1) + "{}", "}".repeat(depth - 1));
    whole(&nested(LIMITS.max_depth)).await.ok();
    let answer = whole(&nested(LIMITS.max_depth + 1)).await;
    answer.assert_at_fault(vec!["child"; LIMITS.max_depth].join(".").as_str());
    let list = format!(r#"{{"anyValue":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    assert_eq!(whole(&list).await.code, 400);
    whole(&"[".repeat(2000)).await.assert_malformed();
}

#[tokio::test]
async fn a_body_must_be_json_in_utf8_or_say_nothing() {
    let gateway = TestGateway::start().await;
    let send = async |content_type: &'static str| {
        let mut request = request(Method::POST, "/v1/whole", "{}");
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        gateway.send(request).await
    };
    for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        send(good).await.ok();
    }
    for bad in
        ["application/x-www-form-urlencoded", "text/json", "application/json; charset=utf-16", "", "application/grpcs"]
    {
        send(bad).await.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
}

#[tokio::test]
async fn an_answer_that_json_cannot_hold_is_internal() {
    // `time` with seconds far beyond year 9999.
    let time = [&[0x92, 0x01, 0x07, 0x08][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    let gateway = TestGateway::before(Reply::Message(time)).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn an_answer_that_is_no_message_is_internal() {
    let gateway = TestGateway::before(Reply::Message(vec![0xff; 9])).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_internal() {
    let gateway = TestGateway::before(Reply::Message(vec![0; 200_000])).await;
    gateway.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn an_answer_cannot_be_sniffed() {
    let name = HeaderName::from_static("x-content-type-options");
    assert_eq!(whole("{}").await.headers.get(name).unwrap(), "nosniff");
}
