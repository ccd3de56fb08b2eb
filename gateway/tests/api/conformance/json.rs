//! Objects: names, nulls, presence, lists and oneofs.

use serde_json::{Value, json};

use super::transcoder::{Transcoder, assert_accepted, assert_rejected};

/// Posts a body and returns the echoed message.
async fn echo(body: &str) -> Value {
    Transcoder::start().await.echo(body).await.ok()
}

#[tokio::test]
async fn json_and_proto_names_are_accepted() {
    for (body, field) in [
        (r#"{"aString":"x"}"#, "aString"),
        (r#"{"a_string":"x"}"#, "aString"),
        (r#"{"other":"x"}"#, "other"),
        (r#"{"renamed":"x"}"#, "other"),
        (r#"{"alreadyCamel":"x"}"#, "alreadyCamel"),
        (r#"{"with1Digit":"x"}"#, "with1Digit"),
        (r#"{"with_1_digit":"x"}"#, "with1Digit"),
        (r#"{"\u0061String":"x"}"#, "aString"),
    ] {
        assert_eq!(echo(body).await[field], "x", "{body}");
    }
}

#[tokio::test]
async fn unknown_name_is_rejected() {
    let transcoder = Transcoder::start().await;
    for name in ["AString", "astring", "a-string", "aString ", "14", "[test.v1.extension]", "@type"] {
        transcoder.echo(&format!(r#"{{"{name}":"x"}}"#)).await.assert_invalid_field(name);
    }
}

#[tokio::test]
async fn duplicate_field_is_rejected() {
    let transcoder = Transcoder::start().await;
    for body in [
        r#"{"aString":"x","aString":"x"}"#,
        r#"{"aString":"x","a_string":"x"}"#,
        r#"{"aString":null,"aString":"x"}"#,
        r#"{"aString":"x","aString":null}"#,
    ] {
        transcoder.echo(body).await.assert_invalid_field("a_string");
    }
    transcoder.echo(r#"{"child":{"texts":[],"texts":[]}}"#).await.assert_invalid_field("child.texts");
}

#[tokio::test]
async fn null_leaves_every_field_unset() {
    let pool = super::transcoder::pool();
    let all = pool.get_message_by_name("test.conformance.v1.All").unwrap();
    let empty = echo("{}").await;
    for field in all.fields().filter(|field| !["a_value", "choice_null"].contains(&field.name())) {
        let body = json!({field.json_name(): null}).to_string();
        assert_eq!(echo(&body).await, empty, "{body}");
    }
}

#[tokio::test]
async fn null_is_a_value_of_value_and_null_value() {
    assert_accepted("aValue", &[("null", Value::Null)]).await;
    assert_accepted("choiceNull", &[("null", Value::Null), ("\"NULL_VALUE\"", Value::Null), ("0", Value::Null)]).await;
    assert_accepted("values", &[("[null, 1]", json!([null, 1.0]))]).await;
}

#[tokio::test]
async fn null_is_rejected_in_a_list() {
    for (field, path) in [
        ("numbers", "numbers[1]"),
        ("texts", "texts[1]"),
        ("colors", "colors[1]"),
        ("items", "items[1]"),
        ("times", "times[1]"),
        ("wrapped", "wrapped[1]"),
    ] {
        let first = match field {
            "texts" => "\"a\"",
            "items" => "{}",
            "times" => "\"1970-01-01T00:00:00Z\"",
            _ => "1",
        };
        assert_rejected(field, path, &[&format!("[{first}, null]")]).await;
    }
}

#[tokio::test]
async fn list_must_be_an_array() {
    assert_accepted("numbers", &[("[]", json!([])), ("[1, \"2\", 3e0]", json!(["1", "2", "3"]))]).await;
    assert_accepted("blobs", &[("[\"\", \"-_8\"]", json!(["", "+/8="]))]).await;
    assert_rejected("numbers", "numbers", &["1", "\"1\"", "{}"]).await;
    assert_rejected("numbers", "numbers[0]", &["[[1]]", "[\"x\"]", "[{}]"]).await;
}

#[tokio::test]
async fn fields_without_presence_are_written_with_defaults() {
    let empty = echo("{}").await;
    assert_eq!(
        (&empty["aDouble"], &empty["anInt32"], &empty["anInt64"], &empty["aBool"], &empty["aBytes"], &empty["anEnum"]),
        (&json!(0.0), &json!(0), &json!("0"), &json!(false), &json!(""), &json!("COLOR_UNSPECIFIED"))
    );
    assert_eq!((&empty["numbers"], &empty["items"], &empty["byBool"]), (&json!([]), &json!([]), &json!({})));
}

#[tokio::test]
async fn fields_with_presence_are_written_only_if_set() {
    let absent = echo("{}").await;
    for (field, default) in [
        ("maybeInt32", json!(0)),
        ("maybeString", json!("")),
        ("maybeEnum", json!("COLOR_UNSPECIFIED")),
        ("maybeBytes", json!("")),
        ("choiceText", json!("")),
        ("choiceNumber", json!(0)),
        ("aStringValue", json!("")),
        ("aBoolValue", json!(false)),
        ("anEmpty", json!({})),
        ("aMask", json!("")),
        ("aStruct", json!({})),
        ("aList", json!([])),
        ("anAny", json!({})),
        ("aTime", json!("1970-01-01T00:00:00Z")),
        ("aSpan", json!("0s")),
    ] {
        assert_eq!(absent.get(field), None, "{field}");
        assert_accepted(field, &[(&default.to_string(), default.clone())]).await;
    }
    assert!(echo(r#"{"child":{}}"#).await["child"].is_object());
}

#[tokio::test]
async fn only_one_member_of_a_oneof_can_be_set() {
    assert_accepted("choiceItem", &[(r#"{"aString":"x"}"#, echo(r#"{"aString":"x"}"#).await)]).await;
    let transcoder = Transcoder::start().await;
    for (body, field) in [
        (r#"{"choiceText":"a","choiceNumber":1}"#, "choice_number"),
        (r#"{"choiceNumber":0,"choiceText":""}"#, "choice_text"),
        (r#"{"choiceText":"a","choiceItem":{}}"#, "choice_item"),
        (r#"{"choiceText":"a","choiceNull":null}"#, "choice_null"),
    ] {
        transcoder.echo(body).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn null_sets_no_member_of_a_oneof() {
    for body in [r#"{"choiceText":null,"choiceNumber":1}"#, r#"{"choiceNumber":1,"choiceItem":null}"#] {
        let message = echo(body).await;
        assert_eq!((message.get("choiceText"), &message["choiceNumber"]), (None, &json!(1)), "{body}");
    }
}

#[tokio::test]
async fn invalid_json_is_malformed() {
    let transcoder = Transcoder::start().await;
    for body in [
        "{\"aString\":\"x\",}",
        "{\"aString\":\"x\"} x",
        "{'aString':'x'}",
        "{aString:\"x\"}",
        "// x\n{}",
        "{\"numbers\":[1,]}",
        "{\"anInt32\":+1}",
        "{\"anInt32\":01}",
        "{\"anInt32\":.5}",
        "{\"anInt32\":1.}",
        "{\"anInt32\":0x1}",
        "{\"aDouble\":NaN}",
        "{\"aDouble\":-Infinity}",
        "{\"aBool\":True}",
        "{\"aString\":\"\t\"}",
        "\u{feff}{}",
    ] {
        transcoder.echo(body).await.assert_malformed();
    }
}
