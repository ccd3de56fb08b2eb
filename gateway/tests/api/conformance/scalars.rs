//! Booleans, strings, bytes and enums.

use http::Method;
use serde_json::json;

use super::transcoder::{Transcoder, assert_read, assert_refused};

#[tokio::test]
async fn a_boolean_is_written_as_such() {
    assert_read("aBool", &[("true", json!(true)), ("false", json!(false))]).await;
    assert_refused("aBool", "a_bool", &["\"true\"", "1", "0", "\"\"", "[true]", "{}"]).await;
}

#[tokio::test]
async fn a_string_is_any_text_of_unicode() {
    assert_read(
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
    assert_refused("aString", "a_string", &["1", "true", "[\"a\"]", "{}"]).await;
}

#[tokio::test]
async fn half_a_surrogate_is_no_text() {
    let transcoder = Transcoder::start().await;
    for text in [r"\ud800", r"\udc00", r"\ude00\ud83d", r"\ud83dx"] {
        transcoder.echo(&format!(r#"{{"aString":"{text}"}}"#)).await.assert_malformed();
    }
}

#[tokio::test]
async fn bytes_are_read_in_both_alphabets_with_padding_or_without() {
    let texts = ["\"+/8=\"", "\"+/8\"", "\"-_8=\"", "\"-_8\""];
    assert_read("aBytes", &texts.map(|text| (text, json!("+/8=")))).await;
    assert_read("aBytes", &[("\"\"", json!("")), ("\"AA==\"", json!("AA==")), ("\"AA\"", json!("AA=="))]).await;
    let wrong = ["\"*\"", "\"A\"", "\"+_8=\"", "\"AAA==\"", "\"AA A\"", "\"AA==AA==\"", "\"=\"", "1", "[1]"];
    assert_refused("aBytes", "a_bytes", &wrong).await;
}

#[tokio::test]
async fn an_enum_is_read_by_name_and_by_number() {
    let red = ["\"COLOR_RED\"", "1", "1.0", "1e0"];
    assert_read("anEnum", &red.map(|text| (text, json!("COLOR_RED")))).await;
    assert_read("anEnum", &[("-1", json!("COLOR_BELOW")), ("0", json!("COLOR_UNSPECIFIED"))]).await;
    let wrong = ["\"RED\"", "\"color_red\"", "\"\"", "\"1\"", "1.5", "2147483648", "true", "[]"];
    assert_refused("anEnum", "an_enum", &wrong).await;
}

#[tokio::test]
async fn a_number_without_a_name_stays_in_an_open_enum() {
    assert_read("anEnum", &[("77", json!(77)), ("-2147483648", json!(i32::MIN))]).await;
    assert_read("colors", &[("[1, 9]", json!(["COLOR_RED", 9]))]).await;
}

#[tokio::test]
async fn a_number_without_a_name_is_refused_by_a_closed_enum() {
    let transcoder = Transcoder::start().await;
    let closed = async |body: &str| transcoder.send(Method::POST, "/v1/closed", body).await;
    assert_eq!(closed(r#"{"level":2}"#).await.ok()["level"], "LEVEL_HIGH");
    closed(r#"{"level":3}"#).await.assert_at_fault("level");
    closed(r#"{"level":"LEVEL_TOP"}"#).await.assert_at_fault("level");
}
