//! Query parameters.

use http::Method;
use serde_json::{Value, json};

use crate::support::{TestGateway, TestResponse, request};

async fn query(query: &str) -> TestResponse {
    TestGateway::start().await.get(&format!("/v1/query?{query}")).await
}

/// Sends a query and returns one field of the echoed message.
async fn echoed_field(parameters: &str, name: &str) -> Value {
    query(parameters).await.ok()[name].clone()
}

#[tokio::test]
async fn json_and_proto_names_are_accepted() {
    assert_eq!(echoed_field("longNumber=5", "longNumber").await, "5");
    assert_eq!(echoed_field("long_number=5", "longNumber").await, "5");
}

#[tokio::test]
async fn every_field_type_is_parsed() {
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
async fn repeated_parameters_make_a_list_in_order() {
    assert_eq!(echoed_field("texts=b&texts=a&texts=b", "texts").await, json!(["b", "a", "b"]));
    assert_eq!(echoed_field("colors=COLOR_RED&colors=5", "colors").await, json!(["COLOR_RED", "COLOR_BLUE"]));
    assert_eq!(echoed_field("times=1970-01-01T00:00:00Z", "times").await, json!(["1970-01-01T00:00:00Z"]));
}

#[tokio::test]
async fn dotted_names_set_nested_fields() {
    let child = echoed_field("child.number=1&child.child.text=a&child.texts=x&child.texts=y", "child").await;
    assert_eq!(
        (&child["number"], &child["child"]["text"], &child["texts"]),
        (&json!(1), &json!("a"), &json!(["x", "y"]))
    );
}

#[tokio::test]
async fn empty_parameters_are_ignored() {
    query("&&text=a&").await.ok();
}

#[tokio::test]
async fn unknown_parameter_is_rejected() {
    query("nothing=1").await.assert_invalid_field("nothing");
    query("child.nothing=1").await.assert_invalid_field("child.nothing");
    query("text.nothing=1").await.assert_invalid_field("text.nothing");
    query("time.seconds=1").await.assert_invalid_field("time.seconds");
    query("=1").await.assert_invalid_field("\"\"");
}

#[tokio::test]
async fn repeated_parameter_of_a_single_field_is_rejected() {
    query("text=a&text=a").await.assert_invalid_field("text");
    query("long_number=1&longNumber=1").await.assert_invalid_field("long_number");
    query("child.text=a&child.text=b").await.assert_invalid_field("child.text");
}

#[tokio::test]
async fn two_members_of_a_oneof_are_rejected() {
    query("left=a&right=1").await.assert_invalid_field("right");
    query("pick_text=a&pick_thing.text=b").await.assert_invalid_field("pick_thing.text");
    query("pick_thing.text=b&pick_thing.number=1").await.ok();
}

#[tokio::test]
async fn fields_without_a_text_form_are_rejected() {
    for name in ["child", "children", "counts", "struct", "any", "any_value"] {
        query(&format!("{name}=a")).await.assert_invalid_field(name);
    }
    query("counts.a=1").await.assert_invalid_field("counts.a");
    query("children.text=a").await.assert_invalid_field("children.text");
}

#[tokio::test]
async fn value_of_wrong_type_is_reported_with_its_field() {
    for parameter in
        ["number=x", "number=", "flag=yes", "flag=1", "data=%21", "some_color=GREEN", "some_color=1.5", "time=now"]
    {
        query(parameter).await.assert_invalid_field(parameter.split_once('=').unwrap().0);
    }
    query("child.number=1.5").await.assert_invalid_field("child.number");
}

#[tokio::test]
async fn invalid_percent_encoding_is_rejected() {
    query("text=%zz").await.assert_invalid_field("text");
    query("text=%ff").await.assert_invalid_field("text");
    query("te%xt=a").await.assert_invalid_field("te%xt");
}

#[tokio::test]
async fn path_field_is_rejected_in_the_query() {
    let gateway = TestGateway::start().await;
    gateway.get("/v1/texts/a?text=b").await.assert_invalid_field("text");
    gateway.get("/v1/children/a/of/b?child.text=c").await.assert_invalid_field("child.text");
    assert_eq!(gateway.get("/v1/children/a/of/b?child.number=3").await.ok()["child"]["number"], 3);
}

#[tokio::test]
async fn body_field_is_rejected_in_the_query() {
    let gateway = TestGateway::start().await;
    gateway.post("/v1/whole?text=a", "{}").await.assert_invalid_field("text");
    gateway.post("/v1/things?thing.number=1", "{}").await.assert_invalid_field("thing.number");
    assert_eq!(gateway.post("/v1/things?note=n", "{}").await.ok()["note"], "n");
}

#[tokio::test]
async fn without_a_body_all_other_fields_are_query_parameters() {
    let gateway = TestGateway::start().await;
    let response = gateway.send(request(Method::DELETE, "/v1/things/a?note=n&thing.etag=e", "")).await.ok();
    assert_eq!(
        (&response["thing"]["text"], &response["thing"]["etag"], &response["note"]),
        (&json!("a"), &json!("e"), &json!("n"))
    );
}

#[tokio::test]
async fn parameter_nested_too_deep_is_rejected() {
    let name = vec!["child"; 40].join(".");
    query(&format!("{name}.text=a")).await.assert_invalid_field(&format!("{name}.text")[..200]);
}
