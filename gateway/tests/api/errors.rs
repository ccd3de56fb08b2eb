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

use crate::support::{Answer, Reply, TestGateway, backend_at, pool, request, settings};

async fn refused_with(status: Status) -> Answer {
    TestGateway::before(Reply::Refuse(status)).await.get("/v1/query").await
}

#[tokio::test]
async fn every_code_has_its_http_code() {
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
        let answer = refused_with(ApiError::new(code, ErrorReason::TaskNotFound, "no such task").into()).await;
        answer.assert_refused(http, name, "TASK_NOT_FOUND", &[]);
        assert_eq!(answer.json()["error"]["message"], "no such task");
    }
}

#[tokio::test]
async fn details_are_passed_on_in_clear() {
    let refusal = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, "title: is empty")
        .field("task.title", "is empty")
        .retry_after(Duration::from_millis(1500));
    let answer = refused_with(refusal.into()).await;
    answer.assert_at_fault("task.title");
    assert_eq!(answer.detail("BadRequest")["fieldViolations"][0]["description"], "is empty");
    assert_eq!(answer.detail("RetryInfo")["retryDelay"], "1.500s");
}

#[tokio::test]
async fn details_of_unknown_types_are_passed_on_as_bytes() {
    let detail = prost_types::Any { type_url: "type.googleapis.com/some.Thing".to_owned(), value: vec![1, 2, 3] };
    let details = pb::Status { code: 9, message: String::new(), details: vec![detail] }.encode_to_vec();
    let answer = refused_with(Status::with_details(Code::FailedPrecondition, "no", details.into())).await;
    let found = &answer.json()["error"]["details"][0];
    assert_eq!(*found, serde_json::json!({"@type": "type.googleapis.com/some.Thing", "value": "AQID"}));
}

#[tokio::test]
async fn every_error_carries_the_request_id_once() {
    for reply in [Reply::Refuse(ApiError::internal("test").into()), Reply::Refuse(Status::not_found("bare"))] {
        let gateway = TestGateway::before(reply).await;
        for path in ["/v1/query", "/nowhere"] {
            let mut request = request(Method::GET, path, "");
            request.headers_mut().insert("x-request-id", HeaderValue::from_static("mine"));
            let answer = gateway.send(request).await;
            assert_eq!(answer.detail("RequestInfo")["requestId"], "mine", "{answer:?}");
            assert_eq!(answer.header("x-request-id"), "mine");
        }
    }
}

#[tokio::test]
async fn a_challenge_goes_with_401() {
    for reason in [ErrorReason::TokenMissing, ErrorReason::TokenExpired] {
        let answer = refused_with(ApiError::new(Code::Unauthenticated, reason, "no").into()).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    let answer = refused_with(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, "no").into()).await;
    assert_eq!(answer.header("www-authenticate"), "");
}

#[tokio::test]
async fn retry_after_is_rounded_up_to_whole_seconds() {
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let refusal = || ApiError::new(code, ErrorReason::RateLimited, "wait");
        for (millis, header) in [(1, "1"), (1000, "1"), (1001, "2"), (30_000, "30"), (0, "1")] {
            let answer = refused_with(refusal().retry_after(Duration::from_millis(millis)).into()).await;
            assert_eq!(answer.header("retry-after"), header, "{millis}");
        }
        assert_eq!(refused_with(refusal().into()).await.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn a_message_too_large_for_the_service_is_413() {
    let refusal = ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, "too large");
    let answer = refused_with(refusal.into()).await;
    answer.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn a_status_without_a_reason_is_given_one_and_no_text_of_its_own() {
    for (status, http, name, reason) in [
        (Status::not_found("rust::Type"), 404, "NOT_FOUND", "INTERNAL"),
        (Status::internal("rust::Type"), 500, "INTERNAL", "INTERNAL"),
        (Status::out_of_range("rust::Type"), 500, "INTERNAL", "INTERNAL"),
        (Status::unavailable("rust::Type"), 503, "UNAVAILABLE", "BACKEND_UNAVAILABLE"),
        (Status::deadline_exceeded("rust::Type"), 504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    ] {
        let answer = refused_with(status).await;
        answer.assert_refused(http, name, reason, &[]);
        assert!(!answer.text.contains("rust::Type"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_backend_that_is_down_is_unavailable() {
    let backends = vec![backend_at("http://127.0.0.1:1", None)];
    let gateway = Gateway::new(pool(), backends, settings(Duration::from_secs(30))).unwrap();
    for _ in 0..2 {
        let answer = Answer::read(gateway.answer(request(Method::GET, "/v1/query", "")).await).await;
        answer.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
        assert_eq!((answer.header("retry-after"), &answer.detail("RetryInfo")["retryDelay"]), ("1", &"1s".into()));
        assert!(!answer.text.contains("127.0.0.1"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_backend_that_comes_back_is_found_again() {
    // An address of its own, so that no other test is given the port meanwhile.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::new(pool(), vec![backend_at(&url, None)], settings(Duration::from_secs(30))).unwrap();
    drop(listener);
    assert_eq!(gateway.answer(request(Method::GET, "/v1/query", "")).await.status(), 503);
    let _backend = crate::support::FakeBackend::start_at(Reply::Echo, &url["http://".len()..]).await;
    assert_eq!(gateway.answer(request(Method::GET, "/v1/query", "")).await.status(), 200);
}

#[tokio::test]
async fn the_callers_deadline_ends_the_request() {
    let gateway = TestGateway::before(Reply::Nothing).await;
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("0.05"));
    gateway.send(request).await.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}

#[tokio::test]
async fn the_gateways_own_deadline_ends_the_request() {
    let backend = crate::support::FakeBackend::start(Reply::Nothing).await;
    let backends = vec![backend_at(&backend.url(), None)];
    let gateway = Gateway::new(pool(), backends, settings(Duration::from_millis(50))).unwrap();
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("60"));
    let answer = Answer::read(gateway.answer(request).await).await;
    answer.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}

#[tokio::test]
async fn a_deadline_that_is_none_is_refused() {
    let gateway = TestGateway::start().await;
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("request-timeout", HeaderValue::from_static("soon"));
    gateway.send(request).await.assert_at_fault("request-timeout");
    assert!(!gateway.backend.was_called());
}

/// A body that panics when it is read, or never comes.
struct Body(bool);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        assert!(!self.0, "the body panics, as the test wants");
        Poll::Pending
    }
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_nothing() {
    let gateway = TestGateway::start().await;
    let request = Request::post("/v1/whole").body(Body(true)).unwrap();
    let answer = Answer::read(gateway.gateway.answer(request).await).await;
    answer.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
    gateway.get("/v1/query").await.ok();
}

#[tokio::test]
async fn a_body_that_never_comes_meets_the_deadline() {
    let gateway = TestGateway::start().await;
    let request = Request::post("/v1/whole").header("request-timeout", "0.05").body(Body(false)).unwrap();
    let answer = Answer::read(gateway.gateway.answer(request).await).await;
    answer.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}
