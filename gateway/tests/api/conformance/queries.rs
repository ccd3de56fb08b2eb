//! Query parameters for all types of fields.

use serde_json::json;

use super::transcoder::Transcoder;
use crate::support::TestResponse;

async fn query(query: &str) -> TestResponse {
    Transcoder::start().await.get(&format!("/v1/query?{query}")).await
}

#[tokio::test]
async fn every_field_type_with_a_text_form_is_parsed() {
    for (parameters, field, expected) in [
        ("aDouble=1e3", "aDouble", json!(1000.0)),
        ("aDouble=-Infinity", "aDouble", json!("-Infinity")),
        ("aFloat=NaN", "aFloat", json!("NaN")),
        ("anInt32=-2147483648", "anInt32", json!(i32::MIN)),
        ("anInt64=9223372036854775807", "anInt64", json!("9223372036854775807")),
        ("aUint32=4294967295", "aUint32", json!(u32::MAX)),
        ("aUint64=18446744073709551615", "aUint64", json!("18446744073709551615")),
        ("aBool=true", "aBool", json!(true)),
        ("aString=", "aString", json!("")),
        ("aString", "aString", json!("")),
        ("aString=null", "aString", json!("null")),
        ("aString=a=b", "aString", json!("a=b")),
        ("aString=a+b%2Bc%20d%26", "aString", json!("a b+c d&")),
        ("aBytes=-_8", "aBytes", json!("+/8=")),
        ("aBytes=%2B%2F8%3D", "aBytes", json!("+/8=")),
        ("anEnum=COLOR_RED", "anEnum", json!("COLOR_RED")),
        ("anEnum=-1", "anEnum", json!("COLOR_BELOW")),
        ("anEnum=99", "anEnum", json!(99)),
        ("maybeString=", "maybeString", json!("")),
        ("maybeInt32=0", "maybeInt32", json!(0)),
        ("choiceText=", "choiceText", json!("")),
        ("aTime=2026-11-30T08:00:00.5Z", "aTime", json!("2026-11-30T08:00:00.500Z")),
        ("aTime=2026-11-30T08:00:00%2B02:00", "aTime", json!("2026-11-30T06:00:00Z")),
        ("aSpan=-1.5s", "aSpan", json!("-1.500s")),
        ("aMask=aString,child.an_int32", "aMask", json!("aString,child.anInt32")),
        ("aMask=", "aMask", json!("")),
        ("aBoolValue=false", "aBoolValue", json!(false)),
        ("anInt64Value=5", "anInt64Value", json!("5")),
        ("aStringValue=", "aStringValue", json!("")),
        ("aBytesValue=AA", "aBytesValue", json!("AA==")),
        ("aDoubleValue=NaN", "aDoubleValue", json!("NaN")),
        ("other=x", "other", json!("x")),
        ("renamed=x", "other", json!("x")),
        ("numbers=3&numbers=1", "numbers", json!(["3", "1"])),
        ("texts=&texts=a,b", "texts", json!(["", "a,b"])),
        ("colors=1&colors=COLOR_BELOW", "colors", json!(["COLOR_RED", "COLOR_BELOW"])),
        ("blobs=-_8&blobs=", "blobs", json!(["+/8=", ""])),
        ("wrapped=1&wrapped=2", "wrapped", json!([1, 2])),
        ("times=1970-01-01T00:00:00Z", "times", json!(["1970-01-01T00:00:00Z"])),
    ] {
        assert_eq!(query(parameters).await.ok().get(field), Some(&expected), "{parameters}");
    }
}

#[tokio::test]
async fn dotted_names_set_nested_fields_in_both_spellings() {
    let message = query("child.aString=a&child.child.an_int32=7&child.child.texts=x&choice_item.aBool=true").await.ok();
    assert_eq!((&message["child"]["aString"], &message["child"]["child"]["anInt32"]), (&json!("a"), &json!(7)));
    assert_eq!(message["child"]["child"]["texts"], json!(["x"]));
    assert_eq!(message["choiceItem"]["aBool"], true);
    let encoded = query("child%2EaString=a").await.ok();
    assert_eq!(encoded["child"]["aString"], "a");
}

#[tokio::test]
async fn fields_without_a_text_form_are_rejected() {
    for (parameters, field) in [
        ("child=x", "child"),
        ("child=%7B%7D", "child"),
        ("items=x", "items"),
        ("items.aString=x", "items.aString"),
        ("byString=x", "byString"),
        ("byString.a=x", "byString.a"),
        ("byString%5Ba%5D=x", "byString[a]"),
        ("itemsBy.a.aString=x", "itemsBy.a.aString"),
        ("aStruct=x", "aStruct"),
        ("aStruct.a=x", "aStruct.a"),
        ("aValue=x", "aValue"),
        ("values=x", "values"),
        ("aList=x", "aList"),
        ("anAny=x", "anAny"),
        ("anAny.typeUrl=x", "anAny.typeUrl"),
        ("anEmpty=", "anEmpty"),
        ("aTime.seconds=1", "aTime.seconds"),
        ("aStringValue.value=x", "aStringValue.value"),
        ("aString.x=1", "aString.x"),
        ("child..aString=x", "child..aString"),
        (".aString=x", ".aString"),
        ("texts%5B%5D=x", "texts[]"),
        ("nothing=x", "nothing"),
    ] {
        query(parameters).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn value_of_wrong_type_is_rejected() {
    for (parameters, field) in [
        ("anInt32=", "an_int32"),
        ("anInt32=1.5", "an_int32"),
        ("anInt32=%201", "an_int32"),
        ("anInt32=2147483648", "an_int32"),
        ("aUint64=-1", "a_uint64"),
        ("aBool=1", "a_bool"),
        ("aBool=TRUE", "a_bool"),
        ("aBool", "a_bool"),
        ("aDouble=1e999", "a_double"),
        ("aBytes=*", "a_bytes"),
        ("anEnum=red", "an_enum"),
        ("anEnum=", "an_enum"),
        ("anEnum=1.5", "an_enum"),
        ("aTime=1", "a_time"),
        ("aSpan=1", "a_span"),
        ("aMask=a,,b", "a_mask"),
        ("anInt64Value=x", "an_int64_value"),
        ("numbers=1&numbers=x", "numbers"),
        ("child.child.anInt32=x", "child.child.an_int32"),
        ("aString=%ff", "a_string"),
        ("aString=%", "a_string"),
    ] {
        query(parameters).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn repeated_parameter_of_a_single_field_is_rejected() {
    for (parameters, field) in [
        ("aString=a&aString=a", "a_string"),
        ("aString=a&a_string=a", "a_string"),
        ("aString=&aString=", "a_string"),
        ("child.aBool=true&child.aBool=true", "child.a_bool"),
        ("aTime=1970-01-01T00:00:00Z&aTime=1970-01-01T00:00:00Z", "a_time"),
        ("aStringValue=a&aStringValue=b", "a_string_value"),
        ("choiceText=a&choiceNumber=1", "choice_number"),
        ("choiceText=a&choiceItem.aBool=true", "choice_item.a_bool"),
    ] {
        query(parameters).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn path_field_is_rejected_in_the_query() {
    let transcoder = Transcoder::start().await;
    for (path, field) in [
        ("/t/one/a?aString=a", "a_string"),
        ("/t/one/a?a_string=b", "a_string"),
        ("/t/nested/a/7?child.aString=a", "child.a_string"),
        ("/t/nested/a/7?child.child.anInt32=7", "child.child.an_int32"),
    ] {
        transcoder.get(path).await.assert_invalid_field(field);
    }
    assert_eq!(transcoder.get("/t/nested/a/7?child.aBool=true").await.ok()["child"]["aBool"], true);
}

#[tokio::test]
async fn empty_query_is_ignored() {
    let without_query = Transcoder::start().await.get("/v1/query").await.ok();
    for empty in ["", "&", "&&"] {
        assert_eq!(query(empty).await.ok(), without_query, "{empty:?}");
    }
}
