//! Errors of backends, of the connection to them, and of the gateway itself.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gateway::service::Gateway;
use http::{HeaderValue, Method, Request};
use hyper::body::Frame;
use prost::Message;
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::support::{Reply, TestGateway, TestResponse, backend_at, pool, request, settings};

/// Returns the response of the gateway if its backend fails with a status.
async fn response_to_status(status: Status) -> TestResponse {
    TestGateway::start_with(Reply::Status(status)).await.get("/v1/query").await
}

#[tokio::test]
async fn each_grpc_code_maps_to_an_http_code() {
    for (code, http, name) in [
        (Code::Cancelled, 499, "CANCELLED"),
        (Code::Unknown, 500, "UNKNOWN"),
        (Code::InvalidArgument, 400, "INVALID_ARGUMENT"),
        (Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
        (Code::NotFound, 404, "NOT_FOUND"),
        (Code::AlreadyExists, 409, "ALREADY_EXISTS"),
        (Code::PermissionDenied, 403, "PERMISSION_DENIED"),
        (Code::ResourceExhausted, 429, "RESOURCE_EXHAUSTED"),
        (Code::FailedPrecondition, 400, "FAILED_PRECONDITION"),
        (Code::Aborted, 409, "ABORTED"),
        (Code::OutOfRange, 400, "OUT_OF_RANGE"),
        (Code::Unimplemented, 501, "UNIMPLEMENTED"),
        (Code::Internal, 500, "INTERNAL"),
        (Code::Unavailable, 503, "UNAVAILABLE"),
        (Code::DataLoss, 500, "DATA_LOSS"),
        (Code::Unauthenticated, 401, "UNAUTHENTICATED"),
    ] {
        let response = response_to_status(ApiError::new(code, ErrorReason::TaskNotFound, "no such task").into()).await;
        response.assert_refused(http, name, "TASK_NOT_FOUND", &[]);
        assert_eq!(response.json()["error"]["message"], "no such task");
    }
}

#[tokio::test]
async fn known_details_are_written_as_json() {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, "title: is empty")
        .field("task.title", "is empty")
        .retry_after(Duration::from_millis(1500));
    let response = response_to_status(error.into()).await;
    response.assert_invalid_field("task.title");
    assert_eq!(response.detail("BadRequest")["fieldViolations"][0]["description"], "is empty");
    assert_eq!(response.detail("RetryInfo")["retryDelay"], "1.500s");
}

#[tokio::test]
async fn unknown_details_are_written_as_base64() {
    let detail = prost_types::Any { type_url: "type.googleapis.com/some.Thing".to_owned(), value: vec![1, 2, 3] };
    let details = pb::Status { code: 9, message: String::new(), details: vec![detail] }.encode_to_vec();
    let response = response_to_status(Status::with_details(Code::FailedPrecondition, "no", details.into())).await;
    let detail = &response.json()["error"]["details"][0];
    assert_eq!(*detail, serde_json::json!({"@type": "type.googleapis.com/some.Thing", "value": "AQID"}));
}

#[tokio::test]
async fn every_error_contains_the_request_id() {
    for reply in [Reply::Status(ApiError::internal("test").into()), Reply::Status(Status::not_found("bare"))] {
        let gateway = TestGateway::start_with(reply).await;
        for path in ["/v1/query", "/nowhere"] {
            let mut request = request(Method::GET, path, "");
            request.headers_mut().insert("x-request-id", HeaderValue::from_static("mine"));
            let response = gateway.send(request).await;
            assert_eq!(response.detail("RequestInfo")["requestId"], "mine", "{response:?}");
            assert_eq!(response.header("x-request-id"), "mine");
        }
    }
}

#[tokio::test]
async fn unauthenticated_has_a_www_authenticate_header() {
    for reason in [ErrorReason::TokenMissing, ErrorReason::TokenExpired] {
        let response = response_to_status(ApiError::new(Code::Unauthenticated, reason, "no").into()).await;
        assert_eq!(response.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    let response =
        response_to_status(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, "no").into()).await;
    assert_eq!(response.header("www-authenticate"), "");
}

#[tokio::test]
async fn retry_after_is_rounded_up_to_whole_seconds() {
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let error = || ApiError::new(code, ErrorReason::RateLimited, "wait");
        for (millis, header) in [(1, "1"), (1000, "1"), (1001, "2"), (30_000, "30"), (0, "1")] {
            let response = response_to_status(error().retry_after(Duration::from_millis(millis)).into()).await;
            assert_eq!(response.header("retry-after"), header, "{millis}");
        }
        assert_eq!(response_to_status(error().into()).await.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn message_too_large_for_the_service_is_413() {
    let error = ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, "too large");
    let response = response_to_status(error.into()).await;
    response.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    assert_eq!(response.header("retry-after"), "");
}

#[tokio::test]
async fn status_without_a_reason_gets_a_reason_and_a_generic_message() {
    for (status, http, name, reason) in [
        (Status::not_found("rust::Type"), 404, "NOT_FOUND", "INTERNAL"),
        (Status::internal("rust::Type"), 500, "INTERNAL", "INTERNAL"),
        (Status::out_of_range("rust::Type"), 500, "INTERNAL", "INTERNAL"),
        (Status::unavailable("rust::Type"), 503, "UNAVAILABLE", "BACKEND_UNAVAILABLE"),
        (Status::deadline_exceeded("rust::Type"), 504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    ] {
        let response = response_to_status(status).await;
        response.assert_refused(http, name, reason, &[]);
        assert!(!response.text.contains("rust::Type"), "{response:?}");
    }
}

#[tokio::test]
async fn unreachable_backend_is_unavailable() {
    let backends = [backend_at("http://127.0.0.1:1", None)];
    let gateway = Gateway::new(pool(), &backends, settings(Duration::from_secs(30))).unwrap();
    for _ in 0..2 {
        let response = TestResponse::read(gateway.handle(request(Method::GET, "/v1/query", "")).await).await;
        response.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
        assert_eq!((response.header("retry-after"), &response.detail("RetryInfo")["retryDelay"]), ("1", &"1s".into()));
        assert!(!response.text.contains("127.0.0.1"), "{response:?}");
    }
}

#[tokio::test]
async fn gateway_reconnects_to_a_restarted_backend() {
    // A separate address, so that no other test can take the port while it is free.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::new(pool(), &[backend_at(&url, None)], settings(Duration::from_secs(30))).unwrap();
    drop(listener);
    assert_eq!(gateway.handle(request(Method::GET, "/v1/query", "")).await.status(), 503);
    let _backend = crate::support::FakeBackend::start_at(Reply::Echo, &url["http://".len()..]).await;
    assert_eq!(gateway.handle(request(Method::GET, "/v1/query", "")).await.status(), 200);
}

#[tokio::test]
async fn request_timeout_header_ends_the_request() {
    let gateway = TestGateway::start_with(Reply::Never).await;
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("0.05"));
    gateway.send(request).await.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}

#[tokio::test]
async fn gateway_timeout_ends_the_request() {
    let backend = crate::support::FakeBackend::start(Reply::Never).await;
    let backends = [backend_at(&backend.url(), None)];
    let gateway = Gateway::new(pool(), &backends, settings(Duration::from_millis(50))).unwrap();
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("60"));
    let response = TestResponse::read(gateway.handle(request).await).await;
    response.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}

#[tokio::test]
async fn invalid_request_timeout_is_rejected() {
    let gateway = TestGateway::start().await;
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("soon"));
    gateway.send(request).await.assert_invalid_field("request-timeout");
    assert!(!gateway.backend.was_called());
}

/// A body that panics when it is read, or never arrives.
pub(crate) struct FaultyBody {
    pub(crate) panics: bool,
}

impl hyper::body::Body for FaultyBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        assert!(!self.panics, "the test requires this panic");
        Poll::Pending
    }
}

#[tokio::test]
async fn panic_returns_500_and_the_gateway_keeps_serving() {
    let gateway = TestGateway::start().await;
    let request = Request::post("/v1/whole").body(FaultyBody { panics: true }).unwrap();
    let response = TestResponse::read(gateway.gateway.handle(request).await).await;
    response.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    gateway.get("/v1/query").await.ok();
}

#[tokio::test]
async fn stalled_body_times_out() {
    let gateway = TestGateway::start().await;
    let request =
        Request::post("/v1/whole").header("request-timeout", "0.05").body(FaultyBody { panics: false }).unwrap();
    let response = TestResponse::read(gateway.gateway.handle(request).await).await;
    response.assert_refused(408, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}
