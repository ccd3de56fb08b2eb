//! Path templates: what they match, what they take out of a path, and which of them comes first.

use http::Method;
use serde_json::json;

use super::transcoder::Transcoder;
use crate::support::Answer;

async fn get(path: &str) -> Answer {
    Transcoder::start().await.get(path).await
}

async fn assert_taken(rows: &[(&str, &str)]) {
    for (path, taken) in rows {
        assert_eq!(get(path).await.ok()["aString"], *taken, "{path}");
    }
}

async fn assert_nowhere(paths: &[&str]) {
    for path in paths {
        get(path).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn a_star_takes_one_segment() {
    assert_taken(&[("/t/one/a", "a"), ("/t/one/a/star", "a"), ("/t/wild/x/a", "a"), ("/t/camel/a", "a")]).await;
    assert_nowhere(&["/t/one/", "/t/one", "/t/one/a/b", "/t/one/a/", "/t/one//star", "/t/wild//a", "//t/one/a"]).await;
}

#[tokio::test]
async fn a_variable_of_a_pattern_takes_all_its_segments() {
    assert_taken(&[
        ("/t/two/shelves/1/books/2", "shelves/1/books/2"),
        ("/t/literal/fixed", "fixed"),
        ("/t/prefix/root/a/b", "root/a/b"),
        ("/t/prefix/root", "root"),
    ])
    .await;
    assert_nowhere(&["/t/two/shelves/1/books", "/t/two/shelves/1/boxes/2", "/t/literal/other", "/t/prefix/a"]).await;
}

#[tokio::test]
async fn two_stars_take_what_is_left_even_nothing() {
    assert_taken(&[
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
async fn one_segment_is_wholly_decoded() {
    assert_taken(&[
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
async fn several_segments_keep_their_encoded_slashes() {
    assert_taken(&[
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
async fn a_path_that_is_not_encoded_right_is_malformed() {
    for path in ["/t/one/%", "/t/one/%2", "/t/one/%zz", "/t/one/%ff", "/t/rest/a/%C3", "/t/%00%"] {
        get(path).await.assert_malformed();
    }
}

#[tokio::test]
async fn a_literal_is_compared_as_it_means() {
    assert_taken(&[("/t/enc%20oded/a", "a"), ("/%74/one/a", "a")]).await;
    assert_nowhere(&["/T/one/a", "/t/enc+oded/a", "/t%2Fone/a"]).await;
}

#[tokio::test]
async fn variables_reach_into_messages() {
    let made = get("/t/nested/a/7").await.ok();
    assert_eq!((&made["child"]["aString"], &made["child"]["child"]["anInt32"]), (&json!("a"), &json!(7)));
}

#[tokio::test]
async fn a_variable_is_of_any_type_that_a_text_can_be() {
    let made = get("/t/kinds/-9223372036854775808/true/COLOR_RED/-_8/2026-11-30T08:00:00Z").await.ok();
    assert_eq!(
        (&made["anInt64"], &made["aBool"], &made["anEnum"], &made["aBytes"], &made["aTime"]),
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
    for (path, at) in [
        (format!("/t/kinds/x/true/COLOR_RED/AA/{time}"), "an_int64"),
        (format!("/t/kinds/1/yes/COLOR_RED/AA/{time}"), "a_bool"),
        (format!("/t/kinds/1/true/GREEN/AA/{time}"), "an_enum"),
        (format!("/t/kinds/1/true/COLOR_RED/*/{time}"), "a_bytes"),
        ("/t/kinds/1/true/COLOR_RED/AA/today".to_owned(), "a_time"),
    ] {
        get(&path).await.assert_at_fault(at);
    }
}

#[tokio::test]
async fn a_verb_follows_the_last_segment() {
    for (path, taken) in [
        ("/t/one/a:act", "a"),
        ("/t/one/a:b:act", "a:b"),
        ("/t/one/a%3Aact:act", "a:act"),
        ("/t/rest/a/b:act", "a/b"),
        ("/t/two/shelves/1/books/2:act", "shelves/1/books/2"),
        ("/t/one:act", ""),
        ("/t/one/a:%61ct", "a"),
    ] {
        let answer = Transcoder::start().await.send(Method::POST, path, "").await;
        assert_eq!(answer.ok()["aString"], taken, "{path}");
    }
    assert_taken(&[("/t/one/a:other", "a:other"), ("/t/one/a%3Aact", "a:act"), ("/t/one/a:", "a:")]).await;
    assert_taken(&[("/t/rest/a:act/b", "a:act/b")]).await;
}

/// The RPC that a request leads to.
async fn rpc(method: &str, path: &str) -> String {
    let transcoder = Transcoder::start().await;
    let answer = transcoder.send(method.parse().unwrap(), path, "").await;
    assert_eq!(answer.code, 200, "{method} {path}: {answer:?}");
    transcoder.backend.call().rpc.rsplit_once('/').unwrap().1.to_owned()
}

#[tokio::test]
async fn the_most_specific_binding_comes_first() {
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
        assert_eq!(rpc(method, path).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn another_method_is_told_of_those_that_are_bound() {
    let answer = Transcoder::start().await.send(Method::DELETE, "/t/one/a", "").await;
    assert_eq!((answer.code, answer.header("allow")), (405, "GET, HEAD"));
    let answer = Transcoder::start().await.send(Method::GET, "/t/one:act", "").await;
    assert_eq!((answer.code, answer.header("allow")), (405, "POST"));
}
