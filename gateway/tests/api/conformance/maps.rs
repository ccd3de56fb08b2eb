//! Maps with all types of keys and values.

use serde_json::json;

use super::transcoder::{assert_accepted, assert_rejected};

#[tokio::test]
async fn every_key_type_is_parsed_from_a_string() {
    for (field, key) in [
        ("byBool", "true"),
        ("byInt32", "-2147483648"),
        ("byInt64", "-9223372036854775808"),
        ("byUint32", "4294967295"),
        ("byUint64", "18446744073709551615"),
        ("bySint32", "-1"),
        ("bySint64", "9223372036854775807"),
        ("byFixed32", "4294967295"),
        ("byFixed64", "18446744073709551615"),
        ("bySfixed32", "2147483647"),
        ("bySfixed64", "-9223372036854775808"),
        ("byString", ""),
    ] {
        let map = format!(r#"{{"{key}":"x"}}"#);
        assert_accepted(field, &[(&map, json!({key: "x"})), ("{}", json!({}))]).await;
    }
}

#[tokio::test]
async fn key_of_wrong_type_is_rejected() {
    for (field, path, key) in [
        ("byBool", "by_bool[1]", "1"),
        ("byBool", "by_bool[True]", "True"),
        ("byInt32", "by_int32[2147483648]", "2147483648"),
        ("byInt64", "by_int64[x]", "x"),
        ("byUint32", "by_uint32[-1]", "-1"),
        ("byUint64", "by_uint64[]", ""),
    ] {
        assert_rejected(field, path, &[&format!(r#"{{"{key}":"x"}}"#)]).await;
    }
}

#[tokio::test]
async fn duplicate_key_is_rejected_in_any_spelling() {
    assert_rejected("byString", "by_string[a]", &[r#"{"a":"1","a":"2"}"#, r#"{"a":"1","\u0061":"1"}"#]).await;
    assert_rejected("byInt32", "by_int32[1.0]", &[r#"{"1":"x","1.0":"y"}"#]).await;
}

#[tokio::test]
async fn every_value_type_is_parsed() {
    assert_accepted("colorsBy", &[(r#"{"a":1,"b":"COLOR_BELOW"}"#, json!({"a": "COLOR_RED", "b": "COLOR_BELOW"}))])
        .await;
    assert_accepted("bytesBy", &[(r#"{"a":"-_8"}"#, json!({"a": "+/8="}))]).await;
    assert_accepted("doublesBy", &[(r#"{"a":"NaN","b":"1"}"#, json!({"a": "NaN", "b": 1.0}))]).await;
    assert_accepted("valuesBy", &[(r#"{"a":null,"b":[1]}"#, json!({"a": null, "b": [1.0]}))]).await;
}

#[tokio::test]
async fn null_is_rejected_as_a_map_value() {
    assert_rejected("byString", "by_string[a]", &[r#"{"a":null}"#]).await;
    assert_rejected("itemsBy", "items_by[a]", &[r#"{"a":null}"#]).await;
    assert_rejected("colorsBy", "colors_by[a]", &[r#"{"a":null}"#]).await;
}

#[tokio::test]
async fn violation_in_a_map_is_reported_with_its_key() {
    assert_rejected("itemsBy", "items_by[a].an_int32", &[r#"{"a":{"anInt32":"x"}}"#]).await;
    assert_rejected("itemsBy", "items_by", &["[]", "1", "\"\""]).await;
}
