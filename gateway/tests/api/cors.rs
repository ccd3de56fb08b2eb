//! Cross-origin requests (CORS).

use bytes::Bytes;
use clap::Parser;
use gateway::Config;
use http::{Method, Request};
use http_body_util::Full;
use service_kit::status::ApiError;
use taskey_proto::{errors::v1::ErrorReason, task::v1::Task};
use tonic::Code;

use crate::{
    program::with_header,
    site::Site,
    support::{Reply, TestResponse},
};

const APP: &str = "https://app.example.org";
const FLAGS: [&str; 4] = ["--cors-origin", APP, "--cors-origin", "http://localhost:5173"];

/// Adds the headers that a browser sends for a page of another origin.
fn from_origin(origin: &str, request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    with_header(with_header(request, "origin", origin), "sec-fetch-site", "cross-site")
}

/// Sends the preflight request of a browser.
async fn preflight(site: &Site, origin: &str) -> TestResponse {
    let request = from_origin(origin, site.program.request(Method::OPTIONS, "/v1/tasks/x", ""));
    let request = with_header(request, "access-control-request-method", "PATCH");
    site.program.send(with_header(request, "access-control-request-headers", "authorization,if-match")).await
}

fn cors_headers(response: &TestResponse) -> Vec<&str> {
    let names = response.headers.keys().map(http::HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-allow")).collect()
}

/// Returns the elements of a list in a header, sorted and in lower case.
fn header_list(response: &TestResponse, name: &str) -> Vec<String> {
    let mut values: Vec<_> = response.header(name).split(',').map(str::to_lowercase).collect();
    values.sort();
    values
}

#[tokio::test]
async fn cors_is_off_by_default() {
    let site = Site::start(&[]).await;
    let response = site.program.send(from_origin(APP, site.request(Method::GET, "/healthz", ""))).await;
    assert_eq!((response.code, cors_headers(&response), response.header("vary")), (200, vec![], ""));
    preflight(&site, APP).await.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
}

#[tokio::test]
async fn allowed_origin_passes_the_preflight_and_reads_responses() {
    let site = Site::start(&FLAGS).await;
    for origin in [APP, "http://localhost:5173"] {
        let preflight = preflight(&site, origin).await;
        assert_eq!(
            (preflight.code, &preflight.text[..], preflight.header("access-control-allow-origin")),
            (200, "", origin)
        );
        assert_eq!((preflight.header("vary"), preflight.header("access-control-max-age")), ("origin", "3600"));
        let request = with_header(site.program.request(Method::GET, "/v1/tasks/x", ""), "authorization", "Bearer a");
        let response = site.program.send(from_origin(origin, request)).await;
        response.ok();
        assert_eq!((response.header("access-control-allow-origin"), response.header("vary")), (origin, "origin"));
        assert_eq!(response.header("access-control-allow-credentials"), "");
    }
}

#[tokio::test]
async fn preflight_lists_allowed_headers_and_response_lists_exposed_headers() {
    let site = Site::start(&FLAGS).await;
    let preflight = preflight(&site, APP).await;
    let methods = header_list(&preflight, "access-control-allow-methods");
    assert_eq!(methods, ["delete", "get", "head", "patch", "post", "put"]);
    let allowed = header_list(&preflight, "access-control-allow-headers");
    for name in
        ["authorization", "content-type", "if-match", "idempotency-key", "last-event-id", "x-grpc-web", "prefer"]
    {
        assert!(allowed.contains(&name.to_owned()), "{allowed:?}");
    }
    let exposed = header_list(
        &site.program.send(from_origin(APP, site.request(Method::GET, "/healthz", ""))).await,
        "access-control-expose-headers",
    );
    for name in ["etag", "retry-after", "x-request-id", "idempotent-replayed", "grpc-status", "grpc-status-details-bin"]
    {
        assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
    }
}

#[tokio::test]
async fn similar_origin_is_not_allowed() {
    let site = Site::start(&FLAGS).await;
    for origin in [
        "https://app.example.org.evil.example",
        "https://evilapp.example.org",
        "https://evil.app.example.org",
        "https://example.org",
        "https://APP.example.org",
        "http://app.example.org",
        "https://app.example.org:443",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "https://app.example.or",
        "http://localhost",
        "null",
        "*",
        "",
    ] {
        for response in [
            preflight(&site, origin).await,
            site.program.send(from_origin(origin, site.request(Method::GET, "/healthz", ""))).await,
        ] {
            assert_eq!(
                (response.header("access-control-allow-origin"), response.header("vary")),
                ("", "origin"),
                "{origin}"
            );
        }
    }
}

#[tokio::test]
async fn errors_have_cors_headers() {
    let error = ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "no such task");
    let site = Site::start_with(Reply::Status(error.into()), &FLAGS).await;
    for path in ["/v1/tasks/x", "/no/such/path"] {
        let response = site.program.send(from_origin(APP, site.request(Method::GET, path, ""))).await;
        assert_eq!((response.code, response.header("access-control-allow-origin")), (404, APP));
    }
}

#[tokio::test]
async fn cookies_are_rejected_from_allowed_origins() {
    let site = Site::start(&FLAGS).await;
    let login = from_origin(APP, site.request(Method::POST, "/v1/auth/login?cookie=true", ""));
    let call = from_origin(APP, site.request(Method::POST, "/v1/tasks/x:complete", "taskey_access=a"));
    for request in [login, call] {
        site.program.send(request).await.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
    }
    assert!(!site.task.was_called() && !site.auth.was_called());
}

#[tokio::test]
async fn grpc_web_has_cors_headers() {
    let site = Site::start_with(Reply::message(&Task::default()), &FLAGS).await;
    let request = site.program.request(Method::POST, "/taskey.task.v1.TaskService/GetTask", "\0\0\0\0\0");
    let response =
        site.program.open(from_origin(APP, with_header(request, "content-type", "application/grpc-web+proto"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], APP);
    assert!(site.task.was_called());
}

#[test]
fn invalid_cors_origin_is_a_usage_error() {
    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }
    for invalid in
        ["*", "null", "https://*.example.org", "https://app.example.org/", "app.example.org", "https://a.example,*"]
    {
        let error =
            Cli::try_parse_from(["gateway", "--cors-origin", invalid]).map(|cli| cli.config).unwrap_err().to_string();
        assert!(error.contains("--cors-origin") && error.contains("https://app.example.org"), "{error}");
    }
}
