//! The JSON of responses, for all values that a service can return.

use prost::Message;
use prost_reflect::{DynamicMessage, MapKey, Value};
use serde_json::json;

use super::transcoder::{Transcoder, pool};
use crate::support::{Reply, TestResponse};

/// Returns the response of the gateway if the service returns a message with these fields.
async fn response_with(fields: Vec<(&str, Value)>) -> TestResponse {
    let mut all = empty("test.conformance.v1.All");
    for (name, value) in fields {
        all.set_field_by_name(name, value);
    }
    Transcoder::start_with(Reply::Message(all.encode_to_vec())).await.get("/v1/query").await
}

fn empty(name: &str) -> DynamicMessage {
    DynamicMessage::new(pool().get_message_by_name(name).unwrap())
}

/// Creates a message of a well-known type.
fn well_known(name: &str, fields: Vec<(&str, Value)>) -> Value {
    let mut message = empty(&format!("google.protobuf.{name}"));
    for (name, value) in fields {
        message.set_field_by_name(name, value);
    }
    Value::Message(message)
}

#[tokio::test]
async fn every_scalar_type_is_written() {
    for (name, value, field, json) in [
        ("a_double", Value::F64(0.1), "aDouble", json!(0.1)),
        ("a_double", Value::F64(f64::NAN), "aDouble", json!("NaN")),
        ("a_double", Value::F64(f64::NEG_INFINITY), "aDouble", json!("-Infinity")),
        ("a_float", Value::F32(0.1), "aFloat", json!(0.1)),
        ("a_float", Value::F32(f32::INFINITY), "aFloat", json!("Infinity")),
        ("an_int32", Value::I32(i32::MIN), "anInt32", json!(i32::MIN)),
        ("an_int64", Value::I64(i64::MIN), "anInt64", json!("-9223372036854775808")),
        ("a_fixed32", Value::U32(u32::MAX), "aFixed32", json!(u32::MAX)),
        ("a_uint64", Value::U64(u64::MAX), "aUint64", json!("18446744073709551615")),
        ("a_bool", Value::Bool(true), "aBool", json!(true)),
        ("a_string", Value::String("\"\u{1f600}\0".to_owned()), "aString", json!("\"\u{1f600}\0")),
        ("a_bytes", Value::Bytes(vec![0xfb, 0xff].into()), "aBytes", json!("+/8=")),
        ("an_enum", Value::EnumNumber(1), "anEnum", json!("COLOR_RED")),
        ("an_enum", Value::EnumNumber(99), "anEnum", json!(99)),
        ("maybe_int32", Value::I32(0), "maybeInt32", json!(0)),
        ("choice_null", Value::EnumNumber(0), "choiceNull", json!(null)),
        ("a_null", Value::EnumNumber(0), "aNull", json!(null)),
    ] {
        assert_eq!(response_with(vec![(name, value)]).await.ok().get(field), Some(&json), "{name}");
    }
}

#[tokio::test]
async fn map_keys_are_strings_in_order() {
    let text = |text: &str| Value::String(text.to_owned());
    let map = |keys: [MapKey; 3]| Value::Map(keys.into_iter().map(|key| (key, text("x"))).collect());
    let numbers = response_with(vec![("by_int32", map([MapKey::I32(10), MapKey::I32(9), MapKey::I32(-1)]))]).await;
    assert!(numbers.text.contains(r#""byInt32":{"-1":"x","9":"x","10":"x"}"#), "{}", numbers.text);
    let texts = ["b", "", "a"].map(|key| MapKey::String(key.to_owned()));
    let texts = response_with(vec![("by_string", map(texts))]).await;
    assert!(texts.text.contains(r#""byString":{"":"x","a":"x","b":"x"}"#), "{}", texts.text);
}

#[tokio::test]
async fn wrapped_nan_is_a_string() {
    for (field, name, value) in
        [("a_double_value", "DoubleValue", Value::F64(f64::NAN)), ("a_float_value", "FloatValue", Value::F32(f32::NAN))]
    {
        let response = response_with(vec![(field, well_known(name, vec![("value", value)]))]).await.ok();
        assert!(response.as_object().unwrap().values().any(|value| value == "NaN"), "{field}: {response}");
    }
}

#[tokio::test]
async fn any_is_written_with_its_type() {
    let any = |url: &str, value: Vec<u8>| {
        let url = Value::String(url.to_owned());
        vec![("an_any", well_known("Any", vec![("type_url", url), ("value", Value::Bytes(value.into()))]))]
    };
    let closed = "type.googleapis.com/test.conformance.v1.Closed";
    assert_eq!(
        response_with(any(closed, vec![0x08, 0x02])).await.ok()["anAny"],
        json!({"@type": closed, "level": "LEVEL_HIGH"})
    );
    assert_eq!(response_with(any("", vec![])).await.ok()["anAny"], json!({}));
    for (url, value) in [("type.googleapis.com/unknown", vec![]), (closed, vec![0xff]), ("", vec![1])] {
        response_with(any(url, value)).await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    }
}

#[tokio::test]
async fn value_that_json_cannot_represent_is_internal() {
    for (field, value) in [
        ("a_time", well_known("Timestamp", vec![("seconds", Value::I64(253_402_300_800))])),
        ("a_time", well_known("Timestamp", vec![("seconds", Value::I64(-62_135_596_801))])),
        ("a_span", well_known("Duration", vec![("seconds", Value::I64(315_576_000_001))])),
        ("a_value", well_known("Value", vec![("number_value", Value::F64(f64::NAN))])),
        ("a_mask", well_known("FieldMask", vec![("paths", Value::List(vec![Value::String("fooBar".to_owned())]))])),
    ] {
        response_with(vec![(field, value)]).await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    }
}

#[tokio::test]
async fn unknown_field_is_omitted() {
    // Field 999, which a newer version of the service might send.
    let unknown = vec![0xba, 0x3e, 0x01, b'x'];
    let response = Transcoder::start_with(Reply::Message(unknown)).await.get("/v1/query").await.ok();
    assert_eq!(response, Transcoder::start().await.get("/v1/query").await.ok());
}

#[tokio::test]
async fn fields_are_written_in_the_order_of_their_numbers() {
    // Fields 31, 14, 31 and 5, then 3 twice.
    let encoded = b"\xfa\x01\x01a\x72\x01s\xfa\x01\x01b\x28\x07\x18\x01\x18\x02".to_vec();
    let response = Transcoder::start_with(Reply::Message(encoded)).await.get("/v1/query").await;
    let expected = response_with(vec![
        ("texts", Value::List(["a", "b"].map(|text| Value::String(text.to_owned())).into())),
        ("a_string", Value::String("s".to_owned())),
        ("a_uint32", Value::U32(7)),
        ("an_int32", Value::I32(2)),
    ]);
    assert_eq!(response.text, expected.await.text);
}

/// A `choice_item` whose time is out of range, followed by a `choice_number`, which clears it.
const CLEARED_TIME: [u8; 19] = *b"\xfa\x03\x0d\x82\x05\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\xf0\x03\x01";

#[tokio::test]
async fn cleared_value_that_json_cannot_represent_is_omitted() {
    let response = Transcoder::start_with(Reply::Message(CLEARED_TIME.to_vec())).await.get("/v1/query").await.ok();
    assert_eq!((response.get("choiceItem"), &response["choiceNumber"]), (None, &json!(1)));
}

#[tokio::test]
async fn malformed_message_is_internal() {
    // After the time that is out of range, `an_empty` is an integer.
    let mut cleared = CLEARED_TIME.to_vec();
    cleared[2] += 3;
    cleared.splice(16..16, *b"\xb8\x05\x01");
    // The value of `an_int32` is missing, is a string, or is in a message that is cleared by another field.
    for encoded in [&b"\x18"[..], b"\x1a\x01x", b"\xfa\x03\x03\x1a\x01x\xf0\x03\x01", &cleared] {
        let transcoder = Transcoder::start_with(Reply::Message(encoded.to_vec())).await;
        transcoder.get("/v1/query").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    }
}
