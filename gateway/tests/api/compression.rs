//! Compression of large responses.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Method, Response, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tonic::body::Body;

use crate::support::{TestGateway, request};

/// Sends a query with this `Accept-Encoding`.
async fn query(gateway: &TestGateway, method: Method, query: &str, codings: &str) -> (HeaderMap, Bytes) {
    let mut request = request(method, &format!("/v1/query?{query}"), "");
    request.headers_mut().insert(header::ACCEPT_ENCODING, codings.parse().unwrap());
    let response: Response<Body> = gateway.gateway.handle(request).await;
    let (parts, body) = response.into_parts();
    assert_eq!(parts.status, 200);
    (parts.headers, body.collect().await.unwrap().to_bytes())
}

fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn large_query() -> String {
    format!("text={}", "a".repeat(2000))
}

#[tokio::test]
async fn large_response_is_compressed_if_the_client_accepts_gzip() {
    let gateway = TestGateway::start().await;
    let (headers, body) = query(&gateway, Method::GET, &large_query(), "br, gzip").await;
    assert_eq!((header_text(&headers, "content-encoding"), header_text(&headers, "vary")), ("gzip", "accept-encoding"));
    assert_eq!(headers["content-length"], body.len().to_string());
    let mut plain = String::new();
    GzDecoder::new(&body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&plain).unwrap()["text"], "a".repeat(2000));
    assert!(body.len() < plain.len() / 4, "{}", body.len());
}

#[tokio::test]
async fn uncompressed_large_response_varies_by_accept_encoding() {
    let gateway = TestGateway::start().await;
    for codings in ["", "br", "gzip;q=0", "identity;q=1, gzip;q=0.5"] {
        let (headers, body) = query(&gateway, Method::GET, &large_query(), codings).await;
        assert_eq!(
            (header_text(&headers, "content-encoding"), header_text(&headers, "vary")),
            ("", "accept-encoding"),
            "{codings}"
        );
        assert!(body.len() > 2000);
    }
}

#[tokio::test]
async fn small_response_is_not_compressed() {
    let gateway = TestGateway::start().await;
    let (headers, _) = query(&gateway, Method::GET, "text=a", "gzip").await;
    assert_eq!((headers.get("content-encoding"), headers.get("vary")), (None, None));
}

#[tokio::test]
async fn response_with_a_strong_etag_is_not_compressed() {
    let gateway = TestGateway::start().await;
    let query_with_tag = format!("{}&etag=%221f%22", large_query());
    let (headers, body) = query(&gateway, Method::GET, &query_with_tag, "gzip").await;
    assert_eq!((header_text(&headers, "etag"), header_text(&headers, "content-encoding")), ("\"1f\"", ""));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["etag"], "\"1f\"");
}

#[tokio::test]
async fn head_has_the_content_length_of_get() {
    let gateway = TestGateway::start().await;
    for codings in ["gzip", "identity"] {
        let (get, get_body) = query(&gateway, Method::GET, &large_query(), codings).await;
        let (head, head_body) = query(&gateway, Method::HEAD, &large_query(), codings).await;
        assert_eq!(head["content-length"], get_body.len().to_string(), "{codings}");
        assert_eq!((head.get("content-encoding"), head_body.len()), (get.get("content-encoding"), 0));
    }
}

#[tokio::test]
async fn error_is_not_compressed() {
    let gateway = TestGateway::start().await;
    let mut request = request(Method::GET, &format!("/v1/query?{}", "n".repeat(3000)), "");
    request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
    gateway.send(request).await.assert_invalid_field(&"n".repeat(200));
}
