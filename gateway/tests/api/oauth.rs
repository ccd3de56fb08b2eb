//! The endpoints of OAuth 2.0: forms, client authentication with HTTP Basic, and errors of RFC 6749, section 5.2.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use service_kit::status::ApiError;
use taskey_proto::{
    auth::v1::{
        AuthorizeDeviceRequest, AuthorizeDeviceResponse, IssueTokenRequest, IssueTokenResponse, RevokeTokenRequest,
        RevokeTokenResponse,
    },
    errors::v1::ErrorReason,
};
use tonic::Code;

use crate::{
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply, TestResponse, config},
};

const FORM: &str = "application/x-www-form-urlencoded";
const TOKEN: &str = "/v1/oauth2/token";
const DEVICE_AUTHORIZATION: &str = "/v1/oauth2/device_authorization";

/// A gateway in front of an auth-service that issues a token.
async fn start() -> (FakeBackend, Program) {
    start_with(Reply::message(&IssueTokenResponse {
        access_token: "a".to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: 300,
        scope: Some("tasks.read".to_owned()),
        ..Default::default()
    }))
    .await
}

async fn start_with(reply: Reply) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::start_with(&backend.url(), UNREACHABLE).await;
    (backend, program)
}

fn form(program: &Program, path: &str, body: &str) -> Request<Full<Bytes>> {
    with_header(program.request(Method::POST, path, body), "content-type", FORM)
}

fn basic(request: Request<Full<Bytes>>, credentials: &str) -> Request<Full<Bytes>> {
    with_header(request, "authorization", &format!("Basic {}", BASE64_STANDARD.encode(credentials)))
}

/// Asserts that a response is an error of OAuth 2.0 that clients do not store.
#[track_caller]
fn assert_error(response: &TestResponse, code: u16, error: &str) {
    let body: Value = response.json();
    assert_eq!((response.code, body["error"].as_str()), (code, Some(error)), "{body}");
    let names: Vec<_> = body.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["error", "error_description"]);
    assert_eq!((response.header("cache-control"), response.header("content-type")), ("no-store", "application/json"));
}

#[tokio::test]
async fn client_authenticates_in_the_header_or_in_the_form() {
    let (backend, program) = start().await;
    let grant = "grant_type=client_credentials&scope=tasks.read+tasks.write";
    let in_form = format!("{grant}&client_id=billing&client_secret=a%2Bb+c&unknown=1&unknown=2&audience=");
    let in_header = basic(form(&program, TOKEN, grant), "billing:a%2Bb+c");
    let in_both = basic(form(&program, TOKEN, &format!("{grant}&client_id=billing")), "billing:a%2Bb+c");
    for request in [form(&program, TOKEN, &in_form), in_header, in_both] {
        let response = program.send(request).await;
        assert_eq!(response.header("cache-control"), "no-store");
        let token = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 300, "scope": "tasks.read"});
        assert_eq!(response.ok(), token);
        let call = backend.calls().pop().expect("a call");
        assert_eq!(call.rpc, "/taskey.auth.v1.OAuthService/IssueToken");
        assert!(call.values("authorization").is_empty());
        let expected = IssueTokenRequest {
            grant_type: "client_credentials".to_owned(),
            client_id: "billing".to_owned(),
            client_secret: "a+b c".to_owned(),
            scope: "tasks.read tasks.write".to_owned(),
            ..Default::default()
        };
        assert!(call.message::<IssueTokenRequest>() == expected);
    }
}

#[tokio::test]
async fn token_is_revoked() {
    let (backend, program) = start_with(Reply::message(&RevokeTokenResponse {})).await;
    let request = basic(form(&program, "/v1/oauth2/revoke", "token=a&token_type_hint=access_token"), "billing:x");
    assert_eq!(program.send(request).await.ok(), json!({}));
    let message: RevokeTokenRequest = backend.call().message();
    assert_eq!((&message.token[..], &message.client_id[..]), ("a", "billing"));
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let (backend, program) = start().await;
    let grant = "grant_type=client_credentials";
    let json = with_header(program.request(Method::POST, TOKEN, "{}"), "content-type", "application/json");
    let requests = [
        json,
        program.request(Method::POST, TOKEN, grant),
        form(&program, &format!("{TOKEN}?{grant}"), ""),
        form(&program, TOKEN, &format!("{grant}&grant_type=refresh_token")),
        form(&program, TOKEN, "grant_type=%zz"),
        form(&program, TOKEN, "scope=%ff"),
        basic(form(&program, TOKEN, &format!("{grant}&client_secret=x")), "billing:x"),
        basic(form(&program, TOKEN, &format!("{grant}&client_id=other")), "billing:x"),
    ];
    for request in requests {
        assert_error(&program.send(request).await, 400, "invalid_request");
    }
    for authorization in ["Bearer x", "Basic x", "Basic"] {
        let request = with_header(form(&program, TOKEN, grant), "authorization", authorization);
        let response = program.send(request).await;
        assert_error(&response, 401, "invalid_client");
        assert_eq!(response.header("www-authenticate"), "Basic realm=\"taskey\", charset=\"UTF-8\"");
    }
    assert!(!backend.was_called());
    program.send(program.request(Method::GET, TOKEN, "")).await.assert_refused(
        405,
        "UNIMPLEMENTED",
        "METHOD_UNKNOWN",
        &[],
    );
}

#[tokio::test]
async fn errors_of_the_service_have_the_names_of_oauth() {
    let error = |code, reason| ApiError::new(code, reason, "the \"message\"");
    let named = |code, reason, name| error(code, reason).metadata("error", name);
    let wait = Duration::from_millis(1500);
    let invalid = Code::InvalidArgument;
    for (error, code, name) in [
        (named(Code::Unauthenticated, ErrorReason::ClientInvalid, "invalid_client"), 401, "invalid_client"),
        (named(invalid, ErrorReason::GrantInvalid, "invalid_grant"), 400, "invalid_grant"),
        (named(invalid, ErrorReason::ValidationFailed, "invalid_target"), 400, "invalid_target"),
        (error(invalid, ErrorReason::ValidationFailed), 400, "invalid_request"),
        (error(Code::PermissionDenied, ErrorReason::ScopeMissing), 400, "unauthorized_client"),
        (error(Code::ResourceExhausted, ErrorReason::RateLimited).retry_after(wait), 429, "temporarily_unavailable"),
        (named(Code::ResourceExhausted, ErrorReason::RateLimited, "slow_down"), 400, "slow_down"),
        (named(Code::PermissionDenied, ErrorReason::AuthorizationDenied, "access_denied"), 400, "access_denied"),
        (
            named(Code::FailedPrecondition, ErrorReason::AuthorizationPending, "authorization_pending"),
            400,
            "authorization_pending",
        ),
        (error(Code::Unavailable, ErrorReason::StoreUnavailable), 503, "temporarily_unavailable"),
        (error(Code::Internal, ErrorReason::Internal), 500, "server_error"),
    ] {
        let (_backend, program) = start_with(Reply::Status(error.into())).await;
        let response = program.send(form(&program, TOKEN, "grant_type=x")).await;
        assert_error(&response, code, name);
        if code == 429 {
            assert_eq!(response.header("retry-after"), "2");
        }
    }
}

/// Returns the addresses in the response to a device, if the service returns these.
async fn addresses(flags: &[&str], page: &str) -> (String, Value) {
    let backend = FakeBackend::start(Reply::message(&AuthorizeDeviceResponse {
        device_code: "d".to_owned(),
        user_code: "WDJB-MJHT".to_owned(),
        verification_uri: page.to_owned(),
        verification_uri_complete: format!("{page}#WDJB-MJHT"),
        expires_in: 600,
        interval: 5,
    }))
    .await;
    let url = backend.url();
    let program = Program::start(config(&[&["--auth-url", &url, "--task-url", UNREACHABLE], flags].concat())).await;
    let response = program.send(form(&program, DEVICE_AUTHORIZATION, "client_id=taskey&scope=tasks.read")).await;
    let call = backend.call();
    let expected = AuthorizeDeviceRequest { client_id: "taskey".to_owned(), scope: "tasks.read".to_owned() };
    assert_eq!((call.rpc.as_str(), call.message()), ("/taskey.auth.v1.OAuthService/AuthorizeDevice", expected));
    let mut response = response.ok();
    let addresses = json!([response["verification_uri"].take(), response["verification_uri_complete"].take()]);
    assert_eq!((&response["device_code"], &response["user_code"]), (&json!("d"), &json!("WDJB-MJHT")));
    assert_eq!((&response["expires_in"], &response["interval"]), (&json!(600), &json!(5)));
    (format!("http://{}", program.address), addresses)
}

#[tokio::test]
async fn devices_get_the_address_of_the_page() {
    let (gateway, found) = addresses(&[], "/device").await;
    assert_eq!(found, json!([format!("{gateway}/device"), format!("{gateway}/device#WDJB-MJHT")]));
    let expected = json!(["https://example.org/tasks/device", "https://example.org/tasks/device#WDJB-MJHT"]);
    let (_, found) = addresses(&["--public-url", "https://example.org/tasks/"], "/device").await;
    assert_eq!(found, expected);
    let (_, found) = addresses(&[], "https://example.org/tasks/device").await;
    assert_eq!(found, expected, "the service knows the URL");
}

#[tokio::test]
async fn a_device_that_authenticates_is_refused() {
    let (backend, program) = start().await;
    let request = basic(form(&program, DEVICE_AUTHORIZATION, "scope=tasks.read"), "billing:x");
    assert_error(&program.send(request).await, 400, "invalid_request");
    assert!(!backend.was_called());
}

#[tokio::test]
async fn cookies_are_not_used() {
    let (backend, program) = start().await;
    let request = with_header(form(&program, TOKEN, "grant_type=x"), "cookie", "taskey_access=a");
    program.send(with_header(request, "origin", "https://other.example")).await.ok();
    assert!(backend.call().values("authorization").is_empty());
}

#[tokio::test]
async fn metadata_contains_the_endpoints() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let path = "/.well-known/oauth-authorization-server";
    let metadata = program.get(path).await.ok();
    let issuer = format!("http://{}", program.address);
    assert_eq!(metadata["issuer"], json!(issuer));
    assert_eq!(metadata["token_endpoint"], json!(format!("{issuer}{TOKEN}")));
    assert_eq!(metadata["response_types_supported"], json!([]));
    assert_eq!(metadata["device_authorization_endpoint"], json!(format!("{issuer}{DEVICE_AUTHORIZATION}")));
    let flags = ["--auth-url", UNREACHABLE, "--task-url", UNREACHABLE, "--public-url", "https://example.org/tasks/"];
    let program = Program::start(config(&flags)).await;
    let metadata = program.get(path).await.ok();
    assert_eq!(metadata["issuer"], json!("https://example.org/tasks"));
    assert_eq!(metadata["jwks_uri"], json!("https://example.org/tasks/.well-known/jwks.json"));
    let post = program.send(program.request(Method::POST, path, "")).await;
    post.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
}
