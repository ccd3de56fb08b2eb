//! The types with a JSON form of their own.

use serde_json::{Value, json};

use super::transcoder::{assert_read, assert_refused};

#[tokio::test]
async fn a_timestamp_is_written_in_utc_with_the_digits_that_it_needs() {
    for (text, written) in [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("1970-01-01T00:00:00.1Z", "1970-01-01T00:00:00.100Z"),
        ("1970-01-01T00:00:00.000010Z", "1970-01-01T00:00:00.000010Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500Z"),
        ("2026-11-30T08:00:00+02:00", "2026-11-30T06:00:00Z"),
        ("2026-11-30T08:00:00.000000001-08:30", "2026-11-30T16:30:00.000000001Z"),
        ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00Z"),
    ] {
        assert_read("aTime", &[(&json!(text).to_string(), json!(written))]).await;
    }
}

#[tokio::test]
async fn what_is_no_timestamp_is_refused() {
    let wrong = [
        "0000-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-11-30T08:00:00",
        "2026-11-30 08:00:00Z",
        "2026-11-30t08:00:00z",
        "2026-11-30",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-30T24:00:00Z",
        "2026-11-30T08:60:00Z",
        "2026-11-30T08:00:00+24:00",
        "2026-11-30T08:00:00+0200",
        "2026-11-30T08:00:00.Z",
        "2026-11-30T08:00:00.0000000001Z",
        " 2026-11-30T08:00:00Z",
        "2026-11-30T08:00:00Z ",
        "",
    ];
    let texts = wrong.map(|text| json!(text).to_string());
    assert_refused("aTime", "a_time", &texts.each_ref().map(String::as_str)).await;
    assert_refused("aTime", "a_time", &["0", "{}", "[]", r#"{"seconds":1}"#]).await;
}

#[tokio::test]
async fn a_duration_is_written_with_the_digits_that_it_needs() {
    for (text, written) in [
        ("0s", "0s"),
        ("-0s", "0s"),
        ("1.5s", "1.500s"),
        ("-1.5s", "-1.500s"),
        ("-0.000000001s", "-0.000000001s"),
        ("1.000001s", "1.000001s"),
        ("315576000000s", "315576000000s"),
        ("-315576000000s", "-315576000000s"),
    ] {
        assert_read("aSpan", &[(&json!(text).to_string(), json!(written))]).await;
    }
}

#[tokio::test]
async fn what_is_no_duration_is_refused() {
    let wrong = [
        "315576000001s",
        "-315576000001s",
        "1",
        "1.5",
        "s",
        "1 s",
        "1m",
        "+1s",
        "--1s",
        "1e3s",
        ".5s",
        "1.s",
        "1.0000000001s",
        "",
        " 1s",
    ];
    let texts = wrong.map(|text| json!(text).to_string());
    assert_refused("aSpan", "a_span", &texts.each_ref().map(String::as_str)).await;
    assert_refused("aSpan", "a_span", &["1", "{}", "[]"]).await;
}

#[tokio::test]
async fn a_mask_is_read_in_both_spellings_and_written_in_one() {
    assert_read(
        "aMask",
        &[
            ("\"\"", json!("")),
            ("\"aString\"", json!("aString")),
            ("\"a_string,child.an_int32\"", json!("aString,child.anInt32")),
            ("\"child.aTime,texts\"", json!("child.aTime,texts")),
        ],
    )
    .await;
    assert_refused("aMask", "a_mask", &["\"a,\"", "\",\"", "1", "[\"a\"]", "{}"]).await;
}

#[tokio::test]
async fn a_wrapper_is_written_as_what_is_in_it() {
    for (field, text, written) in [
        ("aDoubleValue", "\"1.5\"", json!(1.5)),
        ("aFloatValue", "0.5", json!(0.5)),
        ("anInt64Value", "9223372036854775807", json!("9223372036854775807")),
        ("aUint64Value", "\"18446744073709551615\"", json!("18446744073709551615")),
        ("anInt32Value", "\"-2147483648\"", json!(i32::MIN)),
        ("aUint32Value", "4294967295", json!(u32::MAX)),
        ("aBoolValue", "true", json!(true)),
        ("aStringValue", "\"\"", json!("")),
        ("aBytesValue", "\"-_8\"", json!("+/8=")),
    ] {
        assert_read(field, &[(text, written)]).await;
    }
    assert_refused("anInt32Value", "an_int32_value", &["2147483648", r#"{"value":1}"#, "[1]"]).await;
    assert_refused("aStringValue", "a_string_value", &["1", r#"{"value":"x"}"#]).await;
}

#[tokio::test]
async fn a_struct_is_any_object_and_a_value_is_any_json() {
    let object = json!({"a": [1.5, null, {"b": true}], "": "x"});
    assert_read("aStruct", &[(&object.to_string(), object.clone()), ("{}", json!({}))]).await;
    for value in [json!("x"), json!(true), json!(-1.5), json!([]), json!([[], {}]), object.clone(), Value::Null] {
        assert_read("aValue", &[(&value.to_string(), value.clone())]).await;
    }
    assert_read("aList", &[("[null, \"x\", [1.5]]", json!([null, "x", [1.5]]))]).await;
    assert_refused("aStruct", "a_struct", &["[]", "1", "\"x\""]).await;
    assert_refused("aList", "a_list", &["{}", "1"]).await;
    assert_refused("aStruct", "a_struct.a", &[r#"{"a":1,"a":2}"#]).await;
    assert_refused("aValue", "a_value[0].b", &[r#"[{"b":1,"b":1}]"#]).await;
}

const CLOSED: &str = "type.googleapis.com/test.conformance.v1.Closed";

#[tokio::test]
async fn an_any_holds_the_fields_of_its_message_in_any_order() {
    let written = json!({"@type": CLOSED, "level": "LEVEL_HIGH"});
    for text in
        [format!(r#"{{"@type":"{CLOSED}","level":2}}"#), format!(r#"{{"level":"LEVEL_HIGH","@type":"{CLOSED}"}}"#)]
    {
        assert_read("anAny", &[(&text, written.clone())]).await;
    }
    let other_host = r#"{"@type":"example.org/types/test.conformance.v1.Closed","level":1}"#;
    let written = json!({"@type": "example.org/types/test.conformance.v1.Closed", "level": "LEVEL_LOW"});
    assert_read("anAny", &[(other_host, written)]).await;
}

#[tokio::test]
async fn an_any_holds_the_value_of_a_type_with_a_form_of_its_own() {
    for (name, value) in [
        ("Duration", json!("1.500s")),
        ("Timestamp", json!("1970-01-01T00:00:00Z")),
        ("Int64Value", json!("5")),
        ("FieldMask", json!("aB,c")),
        ("Struct", json!({"a": 1.5})),
        ("Value", Value::Null),
        ("Empty", json!({})),
        ("Any", json!({"@type": CLOSED, "level": "LEVEL_LOW"})),
    ] {
        let any = json!({"@type": format!("type.googleapis.com/google.protobuf.{name}"), "value": value});
        assert_read("anAny", &[(&any.to_string(), any.clone())]).await;
    }
}

#[tokio::test]
async fn an_any_is_as_strict_as_its_message() {
    let duration = "type.googleapis.com/google.protobuf.Duration";
    for (text, at) in [
        (r#"{"level":1}"#.to_owned(), "an_any"),
        (r#"{"@type":1}"#.to_owned(), "an_any"),
        (r#"{"@type":""}"#.to_owned(), "an_any"),
        (r#"{"@type":"test.conformance.v1.Closed"}"#.to_owned(), "an_any"),
        (r#"{"@type":"type.googleapis.com/test.v1.Unknown"}"#.to_owned(), "an_any"),
        (format!(r#"{{"@type":"{CLOSED}","level":3}}"#), "an_any.level"),
        (format!(r#"{{"@type":"{CLOSED}","nothing":3}}"#), "an_any.nothing"),
        (format!(r#"{{"@type":"{CLOSED}","level":1,"level":1}}"#), "an_any.level"),
        (format!(r#"{{"@type":"{CLOSED}","@type":"{CLOSED}"}}"#), "an_any.@type"),
        (format!(r#"{{"@type":"{duration}"}}"#), "an_any"),
        (format!(r#"{{"@type":"{duration}","value":"x"}}"#), "an_any.value"),
        (format!(r#"{{"@type":"{duration}","value":"1s","more":1}}"#), "an_any"),
    ] {
        assert_refused("anAny", at, &[&text]).await;
    }
    assert_refused("anAny", "an_any", &["[]", "\"x\""]).await;
}

#[tokio::test]
async fn an_empty_message_has_no_fields() {
    assert_refused("anEmpty", "an_empty", &[r#"{"a":1}"#, "[]", "1"]).await;
}
