//! Well-known types, which have their own JSON representations.

use serde_json::{Value, json};

use super::transcoder::{assert_accepted, assert_rejected};

#[tokio::test]
async fn timestamp_is_written_in_utc_with_0_3_6_or_9_digits() {
    for (text, expected) in [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("1970-01-01T00:00:00.1Z", "1970-01-01T00:00:00.100Z"),
        ("1970-01-01T00:00:00.000010Z", "1970-01-01T00:00:00.000010Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500Z"),
        ("2026-11-30T08:00:00+02:00", "2026-11-30T06:00:00Z"),
        ("2026-11-30T08:00:00.000000001-08:30", "2026-11-30T16:30:00.000000001Z"),
        ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00Z"),
    ] {
        assert_accepted("aTime", &[(&json!(text).to_string(), json!(expected))]).await;
    }
}

#[tokio::test]
async fn invalid_timestamp_is_rejected() {
    let invalid = [
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
    let texts = invalid.map(|text| json!(text).to_string());
    assert_rejected("aTime", "a_time", &texts.each_ref().map(String::as_str)).await;
    assert_rejected("aTime", "a_time", &["0", "{}", "[]", r#"{"seconds":1}"#]).await;
}

#[tokio::test]
async fn duration_is_written_with_0_3_6_or_9_digits() {
    for (text, expected) in [
        ("0s", "0s"),
        ("-0s", "0s"),
        ("1.5s", "1.500s"),
        ("-1.5s", "-1.500s"),
        ("-0.000000001s", "-0.000000001s"),
        ("1.000001s", "1.000001s"),
        ("315576000000s", "315576000000s"),
        ("-315576000000s", "-315576000000s"),
    ] {
        assert_accepted("aSpan", &[(&json!(text).to_string(), json!(expected))]).await;
    }
}

#[tokio::test]
async fn invalid_duration_is_rejected() {
    let invalid = [
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
    let texts = invalid.map(|text| json!(text).to_string());
    assert_rejected("aSpan", "a_span", &texts.each_ref().map(String::as_str)).await;
    assert_rejected("aSpan", "a_span", &["1", "{}", "[]"]).await;
}

#[tokio::test]
async fn field_mask_is_parsed_in_both_spellings_and_written_in_camel_case() {
    assert_accepted(
        "aMask",
        &[
            ("\"\"", json!("")),
            ("\"aString\"", json!("aString")),
            ("\"a_string,child.an_int32\"", json!("aString,child.anInt32")),
            ("\"child.aTime,texts\"", json!("child.aTime,texts")),
        ],
    )
    .await;
    assert_rejected("aMask", "a_mask", &["\"a,\"", "\",\"", "1", "[\"a\"]", "{}"]).await;
}

#[tokio::test]
async fn wrapper_is_written_as_its_value() {
    for (field, text, expected) in [
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
        assert_accepted(field, &[(text, expected)]).await;
    }
    assert_rejected("anInt32Value", "an_int32_value", &["2147483648", r#"{"value":1}"#, "[1]"]).await;
    assert_rejected("aStringValue", "a_string_value", &["1", r#"{"value":"x"}"#]).await;
}

#[tokio::test]
async fn struct_is_any_object_and_value_is_any_json() {
    let object = json!({"a": [1.5, null, {"b": true}], "": "x"});
    assert_accepted("aStruct", &[(&object.to_string(), object.clone()), ("{}", json!({}))]).await;
    for value in [json!("x"), json!(true), json!(-1.5), json!([]), json!([[], {}]), object.clone(), Value::Null] {
        assert_accepted("aValue", &[(&value.to_string(), value.clone())]).await;
    }
    assert_accepted("aList", &[("[null, \"x\", [1.5]]", json!([null, "x", [1.5]]))]).await;
    assert_rejected("aStruct", "a_struct", &["[]", "1", "\"x\""]).await;
    assert_rejected("aList", "a_list", &["{}", "1"]).await;
    assert_rejected("aStruct", "a_struct.a", &[r#"{"a":1,"a":2}"#]).await;
    assert_rejected("aValue", "a_value[0].b", &[r#"[{"b":1,"b":1}]"#]).await;
}

const CLOSED: &str = "type.googleapis.com/test.conformance.v1.Closed";

#[tokio::test]
async fn any_contains_the_fields_of_its_message_in_any_order() {
    let expected = json!({"@type": CLOSED, "level": "LEVEL_HIGH"});
    for text in
        [format!(r#"{{"@type":"{CLOSED}","level":2}}"#), format!(r#"{{"level":"LEVEL_HIGH","@type":"{CLOSED}"}}"#)]
    {
        assert_accepted("anAny", &[(&text, expected.clone())]).await;
    }
    let other_host = r#"{"@type":"example.org/types/test.conformance.v1.Closed","level":1}"#;
    let expected = json!({"@type": "example.org/types/test.conformance.v1.Closed", "level": "LEVEL_LOW"});
    assert_accepted("anAny", &[(other_host, expected)]).await;
}

#[tokio::test]
async fn any_of_a_well_known_type_contains_its_value() {
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
        assert_accepted("anAny", &[(&any.to_string(), any.clone())]).await;
    }
}

#[tokio::test]
async fn invalid_any_is_rejected() {
    let duration = "type.googleapis.com/google.protobuf.Duration";
    for (text, path) in [
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
        assert_rejected("anAny", path, &[&text]).await;
    }
    assert_rejected("anAny", "an_any", &["[]", "\"x\""]).await;
}

#[tokio::test]
async fn empty_message_has_no_fields() {
    assert_rejected("anEmpty", "an_empty", &[r#"{"a":1}"#, "[]", "1"]).await;
}
