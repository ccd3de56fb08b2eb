//! Booleans, strings, bytes and enums.

use http::Method;
use serde_json::json;

use super::transcoder::{Transcoder, assert_accepted, assert_rejected};

#[tokio::test]
async fn boolean_is_a_json_boolean() {
    assert_accepted("aBool", &[("true", json!(true)), ("false", json!(false))]).await;
    assert_rejected("aBool", "a_bool", &["\"true\"", "1", "0", "\"\"", "[true]", "{}"]).await;
}

#[tokio::test]
async fn string_can_contain_any_unicode_text() {
    assert_accepted(
        "aString",
        &[
            ("\"\"", json!("")),
            (r#""\u00e4\n\"\\\/""#, json!("ä\n\"\\/")),
            (r#""\ud83d\ude00""#, json!("\u{1f600}")),
            (r#""\u0000""#, json!("\0")),
            ("\"\u{feff}\u{202e}\"", json!("\u{feff}\u{202e}")),
        ],
    )
    .await;
    assert_rejected("aString", "a_string", &["1", "true", "[\"a\"]", "{}"]).await;
}

#[tokio::test]
async fn unpaired_surrogate_is_malformed() {
    let transcoder = Transcoder::start().await;
    for text in [r"\ud800", r"\udc00", r"\ude00\ud83d", r"\ud83dx"] {
        transcoder.echo(&format!(r#"{{"aString":"{text}"}}"#)).await.assert_malformed();
    }
}

#[tokio::test]
async fn bytes_accept_both_base64_alphabets_with_or_without_padding() {
    let texts = ["\"+/8=\"", "\"+/8\"", "\"-_8=\"", "\"-_8\""];
    assert_accepted("aBytes", &texts.map(|text| (text, json!("+/8=")))).await;
    assert_accepted("aBytes", &[("\"\"", json!("")), ("\"AA==\"", json!("AA==")), ("\"AA\"", json!("AA=="))]).await;
    let invalid = ["\"*\"", "\"A\"", "\"+_8=\"", "\"AAA==\"", "\"AA A\"", "\"AA==AA==\"", "\"=\"", "1", "[1]"];
    assert_rejected("aBytes", "a_bytes", &invalid).await;
}

#[tokio::test]
async fn enum_is_parsed_from_a_name_or_a_number() {
    let red = ["\"COLOR_RED\"", "1", "1.0", "1e0"];
    assert_accepted("anEnum", &red.map(|text| (text, json!("COLOR_RED")))).await;
    assert_accepted("anEnum", &[("-1", json!("COLOR_BELOW")), ("0", json!("COLOR_UNSPECIFIED"))]).await;
    let invalid = ["\"RED\"", "\"color_red\"", "\"\"", "\"1\"", "1.5", "2147483648", "true", "[]"];
    assert_rejected("anEnum", "an_enum", &invalid).await;
}

#[tokio::test]
async fn open_enum_accepts_an_unknown_number() {
    assert_accepted("anEnum", &[("77", json!(77)), ("-2147483648", json!(i32::MIN))]).await;
    assert_accepted("colors", &[("[1, 9]", json!(["COLOR_RED", 9]))]).await;
}

#[tokio::test]
async fn closed_enum_rejects_an_unknown_number() {
    let transcoder = Transcoder::start().await;
    let send = async |body: &str| transcoder.send(Method::POST, "/v1/closed", body).await;
    assert_eq!(send(r#"{"level":2}"#).await.ok()["level"], "LEVEL_HIGH");
    send(r#"{"level":3}"#).await.assert_invalid_field("level");
    send(r#"{"level":"LEVEL_TOP"}"#).await.assert_invalid_field("level");
}
