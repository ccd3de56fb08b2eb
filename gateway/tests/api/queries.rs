//! Query parameters.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestGateway, request};

async fn query(query: &str) -> Answer {
    TestGateway::start().await.get(&format!("/v1/query?{query}")).await
}

/// The field that the query made.
async fn field(text: &str, name: &str) -> Value {
    query(text).await.ok()[name].clone()
}

#[tokio::test]
async fn both_spellings_are_taken() {
    assert_eq!(field("longNumber=5", "longNumber").await, "5");
    assert_eq!(field("long_number=5", "longNumber").await, "5");
}

#[tokio::test]
async fn every_kind_of_field_is_read() {
    let thing = query(
        "text=a%20b+c&number=-3&unsigned_number=18446744073709551615&real=1.5&flag=true&data=-_8&some_color=5\
         &maybe_text=&right=4&time=2026-11-30T08:00:00Z&span=1.5s&mask=displayName,due_time&wrapped_text=w\
         &wrapped_number=9",
    )
    .await
    .ok();
    let expected = json!({
        "text": "a b c", "number": -3, "unsignedNumber": "18446744073709551615", "real": 1.5, "flag": true,
        "data": "+/8=", "someColor": "COLOR_BLUE", "maybeText": "", "right": 4, "time": "2026-11-30T08:00:00Z",
        "span": "1.500s", "mask": "displayName,dueTime", "wrappedText": "w", "wrappedNumber": "9",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&thing[name], value, "{name}");
    }
}

#[tokio::test]
async fn repetition_makes_a_list_in_its_order() {
    assert_eq!(field("texts=b&texts=a&texts=b", "texts").await, json!(["b", "a", "b"]));
    assert_eq!(field("colors=COLOR_RED&colors=5", "colors").await, json!(["COLOR_RED", "COLOR_BLUE"]));
    assert_eq!(field("times=1970-01-01T00:00:00Z", "times").await, json!(["1970-01-01T00:00:00Z"]));
}

#[tokio::test]
async fn dots_reach_into_messages() {
    let child = field("child.number=1&child.child.text=a&child.texts=x&child.texts=y", "child").await;
    assert_eq!(
        (&child["number"], &child["child"]["text"], &child["texts"]),
        (&json!(1), &json!("a"), &json!(["x", "y"]))
    );
}

#[tokio::test]
async fn empty_parameters_are_passed_over() {
    query("&&text=a&").await.ok();
}

#[tokio::test]
async fn an_unknown_parameter_is_refused() {
    query("nothing=1").await.assert_at_fault("nothing");
    query("child.nothing=1").await.assert_at_fault("child.nothing");
    query("text.nothing=1").await.assert_at_fault("text.nothing");
    query("time.seconds=1").await.assert_at_fault("time.seconds");
    query("=1").await.assert_at_fault("\"\"");
}

#[tokio::test]
async fn a_single_field_given_twice_is_refused() {
    query("text=a&text=a").await.assert_at_fault("text");
    query("long_number=1&longNumber=1").await.assert_at_fault("long_number");
    query("child.text=a&child.text=b").await.assert_at_fault("child.text");
}

#[tokio::test]
async fn two_fields_of_a_oneof_are_refused() {
    query("left=a&right=1").await.assert_at_fault("right");
    query("pick_text=a&pick_thing.text=b").await.assert_at_fault("pick_thing.text");
    query("pick_thing.text=b&pick_thing.number=1").await.ok();
}

#[tokio::test]
async fn what_no_text_can_be_is_refused() {
    for name in ["child", "children", "counts", "struct", "any", "any_value"] {
        query(&format!("{name}=a")).await.assert_at_fault(name);
    }
    query("counts.a=1").await.assert_at_fault("counts.a");
    query("children.text=a").await.assert_at_fault("children.text");
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_by_its_field() {
    for parameter in
        ["number=x", "number=", "flag=yes", "flag=1", "data=%21", "some_color=GREEN", "some_color=1.5", "time=now"]
    {
        query(parameter).await.assert_at_fault(parameter.split_once('=').unwrap().0);
    }
    query("child.number=1.5").await.assert_at_fault("child.number");
}

#[tokio::test]
async fn bad_encoding_is_refused() {
    query("text=%zz").await.assert_at_fault("text");
    query("text=%ff").await.assert_at_fault("text");
    query("te%xt=a").await.assert_at_fault("te%xt");
}

#[tokio::test]
async fn a_field_of_the_path_is_refused_in_the_query() {
    let gateway = TestGateway::start().await;
    gateway.get("/v1/texts/a?text=b").await.assert_at_fault("text");
    gateway.get("/v1/children/a/of/b?child.text=c").await.assert_at_fault("child.text");
    assert_eq!(gateway.get("/v1/children/a/of/b?child.number=3").await.ok()["child"]["number"], 3);
}

#[tokio::test]
async fn a_field_of_the_body_is_refused_in_the_query() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/whole?text=a", "{}").await.assert_at_fault("text");
    gateway.post("/v1/things?thing.number=1", "{}").await.assert_at_fault("thing.number");
    assert_eq!(gateway.post("/v1/things?note=n", "{}").await.ok()["note"], "n");
}

#[tokio::test]
async fn without_a_body_all_else_is_in_the_query() {
    let gateway = TestGateway::start().await;
    let answer = gateway.send(request(Method::DELETE, "/v1/things/a?note=n&thing.etag=e", "")).await.ok();
    assert_eq!(
        (&answer["thing"]["text"], &answer["thing"]["etag"], &answer["note"]),
        (&json!("a"), &json!("e"), &json!("n"))
    );
}

#[tokio::test]
async fn a_name_nested_too_deep_is_refused() {
    let name = vec!["child"; 40].join(".");
    query(&format!("{name}.text=a")).await.assert_at_fault(&format!("{name}.text")[..200]);
}
