//! Forms, as clients of OAuth send them (RFC 7662, section 2.1).

use http::{HeaderValue, Method, header};
use serde_json::json;

use crate::support::{Answer, TestGateway, request};

async fn form(path: &str, content_type: &'static str, body: &str) -> Answer {
    let mut request = request(Method::POST, path, body);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    TestGateway::start().await.send(request).await
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_form_makes_the_message_where_nothing_is_changed() {
    for content_type in [FORM, "Application/X-WWW-Form-Urlencoded; charset=UTF-8"] {
        let answer = form("/v1/ask", content_type, "text=a+b%26c&longNumber=5&texts=x&texts=y").await.ok();
        assert_eq!((&answer["text"], &answer["longNumber"]), (&json!("a b&c"), &json!("5")));
        assert_eq!(answer["texts"], json!(["x", "y"]));
    }
}

#[tokio::test]
async fn a_form_is_as_strict_as_json() {
    form("/v1/ask", FORM, "nothing=1").await.assert_at_fault("nothing");
    form("/v1/ask", FORM, "text=a&text=b").await.assert_at_fault("text");
    form("/v1/ask", FORM, "number=x").await.assert_at_fault("number");
    form("/v1/ask", FORM, "text=%ff").await.assert_at_fault("text");
    form("/v1/ask?text=a", FORM, "number=1").await.assert_at_fault("text");
}

#[tokio::test]
async fn a_form_is_refused_where_something_may_be_changed() {
    for content_type in [FORM, "multipart/form-data; boundary=x", "text/plain"] {
        form("/v1/whole", content_type, "text=a").await.assert_refused(
            415,
            "INVALID_ARGUMENT",
            "MALFORMED_REQUEST",
            &[],
        );
    }
    let other = form("/v1/ask", "application/x-www-form-urlencoded; charset=latin1", "text=a").await;
    other.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
}
