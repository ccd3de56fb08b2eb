//! Path templates: matching, captured values and precedence.

use http::Method;
use serde_json::json;

use super::transcoder::Transcoder;
use crate::support::TestResponse;

async fn get(path: &str) -> TestResponse {
    Transcoder::start().await.get(path).await
}

/// Asserts the value that each path sets in `a_string`.
async fn assert_captured(rows: &[(&str, &str)]) {
    for (path, captured) in rows {
        assert_eq!(get(path).await.ok()["aString"], *captured, "{path}");
    }
}

async fn assert_not_found(paths: &[&str]) {
    for path in paths {
        get(path).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn star_matches_one_segment() {
    assert_captured(&[("/t/one/a", "a"), ("/t/one/a/star", "a"), ("/t/wild/x/a", "a"), ("/t/camel/a", "a")]).await;
    assert_not_found(&["/t/one/", "/t/one", "/t/one/a/b", "/t/one/a/", "/t/one//star", "/t/wild//a", "//t/one/a"])
        .await;
}

#[tokio::test]
async fn variable_with_a_pattern_captures_all_its_segments() {
    assert_captured(&[
        ("/t/two/shelves/1/books/2", "shelves/1/books/2"),
        ("/t/literal/fixed", "fixed"),
        ("/t/prefix/root/a/b", "root/a/b"),
        ("/t/prefix/root", "root"),
    ])
    .await;
    assert_not_found(&["/t/two/shelves/1/books", "/t/two/shelves/1/boxes/2", "/t/literal/other", "/t/prefix/a"]).await;
}

#[tokio::test]
async fn double_star_matches_any_number_of_segments() {
    assert_captured(&[
        ("/t/rest", ""),
        ("/t/rest/", ""),
        ("/t/rest/a", "a"),
        ("/t/rest/a/b/c", "a/b/c"),
        ("/t/rest/a//c", "a//c"),
        ("/t/rest/a/", "a/"),
        ("/t/rest//", "/"),
    ])
    .await;
}

#[tokio::test]
async fn single_segment_is_fully_decoded() {
    assert_captured(&[
        ("/t/one/a%2Fb", "a/b"),
        ("/t/one/a%2fb", "a/b"),
        ("/t/one/%20%25%3F%23%C3%A4", " %?#ä"),
        ("/t/one/a+b", "a+b"),
        ("/t/one/a%2Bb", "a+b"),
        ("/t/one/%252F", "%2F"),
        ("/t/one/a;b=c,d", "a;b=c,d"),
        ("/t/one/~-_.!$&'()*@", "~-_.!$&'()*@"),
        ("/t/one/..", ".."),
        ("/t/one/%2E%2E", ".."),
    ])
    .await;
}

#[tokio::test]
async fn multiple_segments_keep_encoded_slashes() {
    assert_captured(&[
        ("/t/rest/a%2Fb/c", "a%2Fb/c"),
        ("/t/rest/a%2fb", "a%2fb"),
        ("/t/rest/%20%25%3F%23%C3%A4", " %?#ä"),
        ("/t/rest/a+b", "a+b"),
        ("/t/two/shelves/a%2Fb/books/c%20d", "shelves/a%2Fb/books/c d"),
        ("/t/two/sh%65lves/1/books/2", "shelves/1/books/2"),
    ])
    .await;
}

#[tokio::test]
async fn invalid_percent_encoding_is_malformed() {
    for path in ["/t/one/%", "/t/one/%2", "/t/one/%zz", "/t/one/%ff", "/t/rest/a/%C3", "/t/%00%"] {
        get(path).await.assert_malformed();
    }
}

#[tokio::test]
async fn literal_is_compared_after_decoding() {
    assert_captured(&[("/t/enc%20oded/a", "a"), ("/%74/one/a", "a")]).await;
    assert_not_found(&["/T/one/a", "/t/enc+oded/a", "/t%2Fone/a"]).await;
}

#[tokio::test]
async fn variables_set_nested_fields() {
    let message = get("/t/nested/a/7").await.ok();
    assert_eq!((&message["child"]["aString"], &message["child"]["child"]["anInt32"]), (&json!("a"), &json!(7)));
}

#[tokio::test]
async fn variable_can_have_any_type_with_a_text_form() {
    let message = get("/t/kinds/-9223372036854775808/true/COLOR_RED/-_8/2026-11-30T08:00:00Z").await.ok();
    assert_eq!(
        (&message["anInt64"], &message["aBool"], &message["anEnum"], &message["aBytes"], &message["aTime"]),
        (
            &json!("-9223372036854775808"),
            &json!(true),
            &json!("COLOR_RED"),
            &json!("+/8="),
            &json!("2026-11-30T08:00:00Z")
        )
    );
    assert_eq!(get("/t/optional/a").await.ok()["maybeString"], "a");
    assert_eq!(get("/t/wrapped/a").await.ok()["aStringValue"], "a");
    assert_eq!(get("/t/choice/a").await.ok()["choiceText"], "a");
    let time = "2026-11-30T08:00:00Z";
    for (path, field) in [
        (format!("/t/kinds/x/true/COLOR_RED/AA/{time}"), "an_int64"),
        (format!("/t/kinds/1/yes/COLOR_RED/AA/{time}"), "a_bool"),
        (format!("/t/kinds/1/true/GREEN/AA/{time}"), "an_enum"),
        (format!("/t/kinds/1/true/COLOR_RED/*/{time}"), "a_bytes"),
        ("/t/kinds/1/true/COLOR_RED/AA/today".to_owned(), "a_time"),
    ] {
        get(&path).await.assert_invalid_field(field);
    }
}

#[tokio::test]
async fn verb_follows_the_last_segment() {
    for (path, captured) in [
        ("/t/one/a:act", "a"),
        ("/t/one/a:b:act", "a:b"),
        ("/t/one/a%3Aact:act", "a:act"),
        ("/t/rest/a/b:act", "a/b"),
        ("/t/two/shelves/1/books/2:act", "shelves/1/books/2"),
        ("/t/one:act", ""),
        ("/t/one/a:%61ct", "a"),
    ] {
        let response = Transcoder::start().await.send(Method::POST, path, "").await;
        assert_eq!(response.ok()["aString"], captured, "{path}");
    }
    assert_captured(&[("/t/one/a:other", "a:other"), ("/t/one/a%3Aact", "a:act"), ("/t/one/a:", "a:")]).await;
    assert_captured(&[("/t/rest/a:act/b", "a:act/b")]).await;
}

/// Returns the name of the RPC that a request calls.
async fn called_rpc(method: &str, path: &str) -> String {
    let transcoder = Transcoder::start().await;
    let response = transcoder.send(method.parse().unwrap(), path, "").await;
    assert_eq!(response.code, 200, "{method} {path}: {response:?}");
    transcoder.backend.call().rpc.rsplit_once('/').unwrap().1.to_owned()
}

#[tokio::test]
async fn most_specific_binding_wins() {
    for (method, path, expected) in [
        ("GET", "/p/a", "Literal"),
        ("GET", "/p/b", "Star"),
        ("GET", "/p/a/b", "Literal"),
        ("GET", "/p/c/b", "Star"),
        ("GET", "/p/a/b/c", "Rest"),
        ("GET", "/p", "Rest"),
        ("GET", "/p/a:verb", "Verb"),
        ("GET", "/p/a:other", "Star"),
        ("LIST", "/p/a", "List"),
        ("PUT", "/p/a", "Any"),
        ("TRACE", "/p/a", "Any"),
        ("HEAD", "/p/a", "Literal"),
    ] {
        assert_eq!(called_rpc(method, path).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn wrong_method_is_405_with_the_allowed_methods() {
    let response = Transcoder::start().await.send(Method::DELETE, "/t/one/a", "").await;
    assert_eq!((response.code, response.header("allow")), (405, "GET, HEAD"));
    let response = Transcoder::start().await.send(Method::GET, "/t/one:act", "").await;
    assert_eq!((response.code, response.header("allow")), (405, "POST"));
}
