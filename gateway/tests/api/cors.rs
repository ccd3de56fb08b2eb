//! Pages of other origins.

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
    support::{Answer, Reply},
};

const APP: &str = "https://app.example.org";
const FLAGS: [&str; 4] = ["--cors-origin", APP, "--cors-origin", "http://localhost:5173"];

/// A request of a page.
fn of(origin: &str, request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    with_header(with_header(request, "origin", origin), "sec-fetch-site", "cross-site")
}

/// What a browser asks before it makes a request.
async fn preflight(site: &Site, origin: &str) -> Answer {
    let request = of(origin, site.program.request(Method::OPTIONS, "/v1/tasks/x", ""));
    let request = with_header(request, "access-control-request-method", "PATCH");
    site.program.send(with_header(request, "access-control-request-headers", "authorization,if-match")).await
}

fn cors_headers(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(http::HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-allow")).collect()
}

/// What a list in a header holds.
fn list(answer: &Answer, name: &str) -> Vec<String> {
    let mut values: Vec<_> = answer.header(name).split(',').map(str::to_lowercase).collect();
    values.sort();
    values
}

#[tokio::test]
async fn nobody_is_let_in_unless_it_is_said() {
    let site = Site::start(&[]).await;
    let answer = site.program.send(of(APP, site.request(Method::GET, "/healthz", ""))).await;
    assert_eq!((answer.code, cors_headers(&answer), answer.header("vary")), (200, vec![], ""));
    preflight(&site, APP).await.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_read() {
    let site = Site::start(&FLAGS).await;
    for origin in [APP, "http://localhost:5173"] {
        let asked = preflight(&site, origin).await;
        assert_eq!((asked.code, &asked.text[..], asked.header("access-control-allow-origin")), (200, "", origin));
        assert_eq!((asked.header("vary"), asked.header("access-control-max-age")), ("origin", "3600"));
        let request = with_header(site.program.request(Method::GET, "/v1/tasks/x", ""), "authorization", "Bearer a");
        let answer = site.program.send(of(origin, request)).await;
        answer.ok();
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), (origin, "origin"));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
}

#[tokio::test]
async fn a_preflight_says_what_may_be_sent_and_an_answer_what_may_be_read() {
    let site = Site::start(&FLAGS).await;
    let asked = preflight(&site, APP).await;
    assert_eq!(list(&asked, "access-control-allow-methods"), ["delete", "get", "head", "patch", "post", "put"]);
    let allowed = list(&asked, "access-control-allow-headers");
    for name in
        ["authorization", "content-type", "if-match", "idempotency-key", "last-event-id", "x-grpc-web", "prefer"]
    {
        assert!(allowed.contains(&name.to_owned()), "{allowed:?}");
    }
    let exposed = list(
        &site.program.send(of(APP, site.request(Method::GET, "/healthz", ""))).await,
        "access-control-expose-headers",
    );
    for name in ["etag", "retry-after", "x-request-id", "idempotent-replayed", "grpc-status", "grpc-status-details-bin"]
    {
        assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
    }
}

#[tokio::test]
async fn an_origin_that_only_looks_alike_is_not_let_in() {
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
        for answer in [
            preflight(&site, origin).await,
            site.program.send(of(origin, site.request(Method::GET, "/healthz", ""))).await,
        ] {
            assert_eq!(
                (answer.header("access-control-allow-origin"), answer.header("vary")),
                ("", "origin"),
                "{origin}"
            );
        }
    }
}

#[tokio::test]
async fn an_error_can_be_read_too() {
    let refusal = ApiError::new(Code::NotFound, ErrorReason::TaskNotFound, "no such task");
    let site = Site::before(Reply::Refuse(refusal.into()), &FLAGS).await;
    for path in ["/v1/tasks/x", "/no/such/path"] {
        let answer = site.program.send(of(APP, site.request(Method::GET, path, ""))).await;
        assert_eq!((answer.code, answer.header("access-control-allow-origin")), (404, APP));
    }
}

#[tokio::test]
async fn cookies_are_for_the_own_origin_alone() {
    let site = Site::start(&FLAGS).await;
    let login = of(APP, site.request(Method::POST, "/v1/auth/login?cookie=true", ""));
    let call = of(APP, site.request(Method::POST, "/v1/tasks/x:complete", "taskey_access=a"));
    for request in [login, call] {
        site.program.send(request).await.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
    }
    assert!(!site.task.was_called() && !site.auth.was_called());
}

#[tokio::test]
async fn grpc_web_is_let_in_too() {
    let site = Site::before(Reply::message(&Task::default()), &FLAGS).await;
    let request = site.program.request(Method::POST, "/taskey.task.v1.TaskService/GetTask", "\0\0\0\0\0");
    let response = site.program.open(of(APP, with_header(request, "content-type", "application/grpc-web+proto"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], APP);
    assert!(site.task.was_called());
}

#[test]
fn what_is_no_origin_is_refused_at_the_start() {
    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }
    for bad in
        ["*", "null", "https://*.example.org", "https://app.example.org/", "app.example.org", "https://a.example,*"]
    {
        let error =
            Cli::try_parse_from(["gateway", "--cors-origin", bad]).map(|cli| cli.config).unwrap_err().to_string();
        assert!(error.contains("--cors-origin") && error.contains("https://app.example.org"), "{error}");
    }
}
