//! JSON of answers, whatever a service may put into them.

use prost::Message;
use prost_reflect::{DynamicMessage, MapKey, Value};
use serde_json::json;

use super::transcoder::{Transcoder, pool};
use crate::support::{Answer, Reply};

/// What the gateway writes of a message in which these fields are set.
async fn written(fields: Vec<(&str, Value)>) -> Answer {
    let mut all = empty("test.conformance.v1.All");
    for (name, value) in fields {
        all.set_field_by_name(name, value);
    }
    Transcoder::before(Reply::Message(all.encode_to_vec())).await.get("/v1/query").await
}

fn empty(name: &str) -> DynamicMessage {
    DynamicMessage::new(pool().get_message_by_name(name).unwrap())
}

/// A well-known type, by its fields.
fn known(name: &str, fields: Vec<(&str, Value)>) -> Value {
    let mut message = empty(&format!("google.protobuf.{name}"));
    for (name, value) in fields {
        message.set_field_by_name(name, value);
    }
    Value::Message(message)
}

#[tokio::test]
async fn every_kind_of_scalar_has_its_form() {
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
        assert_eq!(written(vec![(name, value)]).await.ok().get(field), Some(&json), "{name}");
    }
}

#[tokio::test]
async fn the_keys_of_a_map_are_strings_in_their_order() {
    let text = |text: &str| Value::String(text.to_owned());
    let map = |keys: [MapKey; 3]| Value::Map(keys.into_iter().map(|key| (key, text("x"))).collect());
    let numbers = written(vec![("by_int32", map([MapKey::I32(10), MapKey::I32(9), MapKey::I32(-1)]))]).await;
    assert!(numbers.text.contains(r#""byInt32":{"-1":"x","9":"x","10":"x"}"#), "{}", numbers.text);
    let texts = ["b", "", "a"].map(|key| MapKey::String(key.to_owned()));
    let texts = written(vec![("by_string", map(texts))]).await;
    assert!(texts.text.contains(r#""byString":{"":"x","a":"x","b":"x"}"#), "{}", texts.text);
}

#[tokio::test]
async fn a_wrapped_number_that_is_none_has_its_name() {
    for (field, name, value) in
        [("a_double_value", "DoubleValue", Value::F64(f64::NAN)), ("a_float_value", "FloatValue", Value::F32(f32::NAN))]
    {
        let answer = written(vec![(field, known(name, vec![("value", value)]))]).await.ok();
        assert!(answer.as_object().unwrap().values().any(|value| value == "NaN"), "{field}: {answer}");
    }
}

#[tokio::test]
async fn an_any_is_written_with_its_type() {
    let any = |url: &str, value: Vec<u8>| {
        let url = Value::String(url.to_owned());
        vec![("an_any", known("Any", vec![("type_url", url), ("value", Value::Bytes(value.into()))]))]
    };
    let closed = "type.googleapis.com/test.conformance.v1.Closed";
    assert_eq!(
        written(any(closed, vec![0x08, 0x02])).await.ok()["anAny"],
        json!({"@type": closed, "level": "LEVEL_HIGH"})
    );
    assert_eq!(written(any("", vec![])).await.ok()["anAny"], json!({}));
    for (url, value) in [("type.googleapis.com/unknown", vec![]), (closed, vec![0xff]), ("", vec![1])] {
        written(any(url, value)).await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    }
}

#[tokio::test]
async fn what_json_cannot_hold_is_internal() {
    for (field, value) in [
        ("a_time", known("Timestamp", vec![("seconds", Value::I64(253_402_300_800))])),
        ("a_time", known("Timestamp", vec![("seconds", Value::I64(-62_135_596_801))])),
        ("a_span", known("Duration", vec![("seconds", Value::I64(315_576_000_001))])),
        ("a_value", known("Value", vec![("number_value", Value::F64(f64::NAN))])),
        ("a_mask", known("FieldMask", vec![("paths", Value::List(vec![Value::String("fooBar".to_owned())]))])),
    ] {
        written(vec![(field, value)]).await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    }
}

#[tokio::test]
async fn a_field_that_the_gateway_does_not_know_is_left_out() {
    // Field 999, which a newer service may have.
    let unknown = vec![0xba, 0x3e, 0x01, b'x'];
    let answer = Transcoder::before(Reply::Message(unknown)).await.get("/v1/query").await.ok();
    assert_eq!(answer, Transcoder::start().await.get("/v1/query").await.ok());
}
