//! Forms, which OAuth clients send (RFC 7662, section 2.1).

use http::{HeaderValue, Method, header};
use serde_json::json;

use crate::support::{TestGateway, TestResponse, request};

async fn post_form(path: &str, content_type: &'static str, body: &str) -> TestResponse {
    let mut request = request(Method::POST, path, body);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    TestGateway::start().await.send(request).await
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn form_is_accepted_by_rpcs_without_side_effects() {
    for content_type in [FORM, "Application/X-WWW-Form-Urlencoded; charset=UTF-8"] {
        let response = post_form("/v1/ask", content_type, "text=a+b%26c&longNumber=5&texts=x&texts=y").await.ok();
        assert_eq!((&response["text"], &response["longNumber"]), (&json!("a b&c"), &json!("5")));
        assert_eq!(response["texts"], json!(["x", "y"]));
    }
}

#[tokio::test]
async fn invalid_form_fields_are_rejected() {
    post_form("/v1/ask", FORM, "nothing=1").await.assert_invalid_field("nothing");
    post_form("/v1/ask", FORM, "text=a&text=b").await.assert_invalid_field("text");
    post_form("/v1/ask", FORM, "number=x").await.assert_invalid_field("number");
    post_form("/v1/ask", FORM, "text=%ff").await.assert_invalid_field("text");
    post_form("/v1/ask?text=a", FORM, "number=1").await.assert_invalid_field("text");
}

#[tokio::test]
async fn form_is_rejected_by_rpcs_with_side_effects() {
    for content_type in [FORM, "multipart/form-data; boundary=x", "text/plain"] {
        post_form("/v1/whole", content_type, "text=a").await.assert_refused(
            415,
            "INVALID_ARGUMENT",
            "MALFORMED_REQUEST",
            &[],
        );
    }
    let latin1 = post_form("/v1/ask", "application/x-www-form-urlencoded; charset=latin1", "text=a").await;
    latin1.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
}
