//! The calls and the bytes in memory of one client are limited, and leave room for others.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use service_kit::assert_refused;
use taskey_proto::auth::v1::{
    GetJwksRequest, Jwk, JwkSet, WatchRevocationsRequest, token_service_client::TokenServiceClient,
};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use crate::server::{GET_JWKS, Server, empty, never};

/// The maximum time that a test waits for an expected event.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two attempts to see an expected state.
const PAUSE: Duration = Duration::from_millis(5);

/// Connects from the loopback address with this last byte.
fn connect(server: &Server, host: u8) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL");
    endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, host).into())).connect_lazy()
}

async fn call(channel: &Channel) -> Result<JwkSet, Status> {
    TokenServiceClient::new(channel.clone()).get_jwks(GetJwksRequest {}).await.map(tonic::Response::into_inner)
}

/// Sends the beginning of a request. Returns the error of the call.
async fn send_half(channel: Channel, sent: Vec<u8>) -> Status {
    let sent = (!sent.is_empty()).then(|| Ok::<_, Status>(Frame::data(Bytes::from(sent))));
    let body = Body::new(StreamBody::new(stream::iter(sent).chain(stream::pending())));
    let request = Request::post(GET_JWKS).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(body).expect("a request");
    let mut channel = channel.ready_oneshot().await.expect("connected");
    let response: Response<Body> = channel.call(request).await.expect("a response");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let trailers = response.into_body().collect().await.expect("a whole body").trailers().cloned();
    Status::from_header_map(&trailers.expect("trailers")).expect("a status")
}

/// Returns the beginning of a message with the maximum size.
fn half_message() -> Vec<u8> {
    let size = 256 * 1024_u32;
    [&[0][..], &size.to_be_bytes(), &vec![0; size as usize - 1]].concat()
}

/// Starts calls in the background until one of them is refused. Returns the error and the number of others.
async fn call_until_refused(
    calls: &mut JoinSet<Status>,
    call: impl Fn() -> std::pin::Pin<Box<dyn Future<Output = Status> + Send>>,
) -> (Status, usize) {
    let mut started: Vec<AbortHandle> = Vec::new();
    for others in 0.. {
        started.push(calls.spawn(call()));
        if let Ok(ended) = timeout(Duration::from_millis(200), calls.join_next()).await {
            return (ended.expect("a call").expect("no panic"), others);
        }
    }
    unreachable!("an endless loop")
}

/// Asserts the error of a call that exceeds a budget.
fn assert_overloaded(status: Status) {
    assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
    assert!(status.get_error_details().request_info().is_some(), "{status:?}");
    assert_refused!(Err::<(), _>(status), ResourceExhausted, "OVERLOADED");
}

#[tokio::test]
async fn calls_of_one_client_leave_room_for_others() {
    let server = Server::start(&["--max-calls", "4", "--request-timeout", "60s"], never).await;
    let (greedy, other) = (connect(&server, 2), connect(&server, 3));
    let mut calls = JoinSet::new();
    for channel in [greedy, other] {
        let start = || {
            let channel = channel.clone();
            Box::pin(async move { call(&channel).await.expect_err("never served") }) as _
        };
        let (error, others) = call_until_refused(&mut calls, start).await;
        assert_overloaded(error);
        assert_eq!(others, 2);
    }
}

#[tokio::test]
async fn abandoned_and_completed_calls_make_room() {
    let server = Server::start(&["--max-calls", "2", "--request-timeout", "60s"], never).await;
    let channel = connect(&server, 2);
    for _ in 0..3 {
        let mut calls = JoinSet::new();
        let start = || {
            let channel = channel.clone();
            Box::pin(async move { call(&channel).await.expect_err("never served") }) as _
        };
        let refused_first = async {
            // The end of the previous round arrives at the server some time after it.
            while call_until_refused(&mut calls, start).await.1 == 0 {}
        };
        timeout(TIMEOUT, refused_first).await.expect("abandoned calls make room");
    }
    let server = Server::start(&["--max-calls", "2"], empty).await;
    let channel = connect(&server, 2);
    for _ in 0..10 {
        call(&channel).await.expect("served");
    }
}

#[tokio::test]
async fn requests_without_bodies_leave_room_for_complete_ones() {
    let server = Server::start(&["--max-calls", "8", "--request-timeout", "60s"], empty).await;
    let channel = connect(&server, 2);
    let mut calls = JoinSet::new();
    let start = || Box::pin(send_half(channel.clone(), Vec::new())) as _;
    let (error, others) = call_until_refused(&mut calls, start).await;
    assert_overloaded(error);
    assert_eq!(others, 2);
    // Another client may also leave requests incomplete.
    let other = connect(&server, 3);
    let start = || Box::pin(send_half(other.clone(), Vec::new())) as _;
    assert_eq!(call_until_refused(&mut calls, start).await.1, 2);
    call(&connect(&server, 4)).await.expect("complete calls are served");
}

#[tokio::test]
async fn bytes_of_half_sent_requests_are_limited() {
    let server = Server::start(&["--max-total-request-bytes", "1048576", "--request-timeout", "60s"], empty).await;
    let channel = connect(&server, 2);
    let mut calls = JoinSet::new();
    let start = || Box::pin(send_half(channel.clone(), half_message())) as _;
    let (error, others) = call_until_refused(&mut calls, start).await;
    assert_overloaded(error);
    assert_eq!(others, 2);
    call(&connect(&server, 3)).await.expect("another client is served");
    // The memory is free again when the calls have ended.
    calls.shutdown().await;
    let mut again = JoinSet::new();
    let start = || Box::pin(send_half(channel.clone(), half_message())) as _;
    let refused_late = async { while call_until_refused(&mut again, start).await.1 < 2 {} };
    timeout(TIMEOUT, refused_late).await.expect("the memory is released");
}

#[tokio::test]
async fn request_that_stalls_is_ended() {
    let server = Server::start(&["--request-timeout", "60s"], empty).await;
    let begun = Instant::now();
    let status = timeout(TIMEOUT, send_half(connect(&server, 2), vec![0; 3])).await.expect("ended in time");
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(status.message().contains("had no effect"), "{status:?}");
    assert_refused!(Err::<(), _>(status), DeadlineExceeded, "DEADLINE_EXCEEDED");
}

/// Returns a response of 3 MB.
async fn large() -> Result<JwkSet, Status> {
    Ok(JwkSet { keys: vec![Jwk { kid: "x".repeat(3_000_000), ..Jwk::default() }] })
}

/// Returns the response to a call. Its body is not read.
async fn call_unread(channel: &Channel) -> Response<Body> {
    let request = Request::post(GET_JWKS).header("content-type", "application/grpc").header("te", "trailers");
    let body = Body::new(http_body_util::Full::from(vec![0; 5]));
    let mut channel = channel.clone().ready_oneshot().await.expect("connected");
    channel.call(request.body(body).expect("a request")).await.expect("a response")
}

#[tokio::test]
async fn response_that_is_not_read_is_reset_and_idle_stream_continues() {
    let server = Server::start(&["--keepalive-interval", "250ms", "--keepalive-timeout", "250ms"], large).await;
    let channel = connect(&server, 2);
    let watch = TokenServiceClient::new(channel.clone()).watch_revocations(WatchRevocationsRequest::default()).await;
    let mut watch = watch.expect("a stream").into_inner();
    let mut unread = call_unread(&channel).await.into_body();
    sleep(Duration::from_millis(1500)).await;
    let error = timeout(TIMEOUT, async { while unread.frame().await.expect("not the end").is_ok() {} });
    error.await.expect("reset");
    let idle = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(idle.is_err(), "an idle stream continues, but: {idle:?}");
}

#[tokio::test]
async fn response_that_is_read_slowly_is_complete() {
    let server = Server::start(&["--keepalive-interval", "250ms", "--keepalive-timeout", "250ms"], large).await;
    let mut body = call_unread(&connect(&server, 2)).await.into_body();
    let (begun, mut bytes) = (Instant::now(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("not reset").data_ref().map_or(0, Bytes::len);
        sleep(PAUSE).await;
    }
    assert!(bytes > 3_000_000 && begun.elapsed() > Duration::from_millis(500), "{bytes}");
}

#[tokio::test]
async fn unread_responses_of_one_client_are_limited() {
    let server = Server::start(&["--max-total-response-bytes", "33554432"], large).await;
    let channel = connect(&server, 2);
    let mut unread = Vec::new();
    let refused = async {
        loop {
            let response = call_unread(&channel).await;
            if let Some(status) = Status::from_header_map(response.headers()) {
                return status;
            }
            unread.push(response);
            // The server sends as much as the client accepts.
            sleep(PAUSE).await;
        }
    };
    assert_overloaded(timeout(TIMEOUT, refused).await.expect("refused"));
    let mut other = TokenServiceClient::new(connect(&server, 3)).max_decoding_message_size(usize::MAX);
    other.get_jwks(GetJwksRequest {}).await.expect("another client is served");
    drop(unread);
    let served = async {
        while call(&channel).await.is_err_and(|status| status.code() == tonic::Code::ResourceExhausted) {
            sleep(PAUSE).await;
        }
    };
    timeout(TIMEOUT, served).await.expect("the memory is released");
}
