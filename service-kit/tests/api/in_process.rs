//! Calls between servers of one process.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use service_kit::{
    assert_refused,
    server::{
        connection::{self, Protocol},
        in_process::{InProcessChannel, NotServing},
    },
    testing::listen,
    tls::TlsInfo,
};
use taskey_proto::auth::v1::{
    GetJwksRequest, JwkSet, WatchRevocationsRequest, token_service_client::TokenServiceClient,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::yield_now,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tonic_types::StatusExt;
use tower::Service;

use crate::{
    server::{Server, empty, never},
    support::parse_limits,
};

/// The maximum time that a test waits for an expected event.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a test waits for an event that must not occur.
const PAUSE: Duration = Duration::from_millis(100);

fn request(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).expect("a request")
}

/// Waits until the server of a channel serves.
async fn serving(channel: &InProcessChannel) {
    while channel.clone().call(request("/")).await.is_err() {
        yield_now().await;
    }
}

/// Starts a server, and waits until it serves.
async fn start<F>(flags: &[&str], handler: impl Fn() -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = Result<JwkSet, Status>> + Send + 'static,
{
    let server = Server::start(flags, handler).await;
    serving(&server.in_process).await;
    server
}

fn client(server: &Server) -> TokenServiceClient<InProcessChannel> {
    TokenServiceClient::new(server.in_process.clone())
}

/// Starts a server whose service is a function, without the layers of a gRPC server.
async fn start_function<F>(respond: impl Fn(Request<Body>) -> F + Clone + Send + Sync + 'static) -> InProcessChannel
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (limits, channel) = (parse_limits(&[]), InProcessChannel::default());
    let listener = listen(&limits, None).await.with_in_process(channel.clone());
    let service = tower::service_fn(move |request| respond(request).map(Ok::<_, Infallible>));
    tokio::spawn(async move {
        let shutdown = CancellationToken::new();
        connection::serve("function", listener, Protocol::Http2, &limits, service, shutdown).await
    });
    serving(&channel).await;
    channel
}

async fn send(channel: &InProcessChannel, request: Request<Body>) -> Response<Body> {
    channel.clone().call(request).await.expect("the server serves")
}

#[tokio::test]
async fn call_passes_through_the_layers_of_the_server() {
    let server = start(&["--request-timeout", "50ms"], never).await;
    let mut request = tonic::Request::new(GetJwksRequest {});
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("a value"));
    let status = client(&server).get_jwks(request).await.expect_err("refused");
    assert_eq!(status.get_error_details().request_info().expect("a request id").request_id, "mine");
    assert_refused!(Err::<(), _>(status), DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn limits_of_the_server_apply() {
    let server = start(&["--max-calls", "2", "--request-timeout", "60s"], never).await;
    let mut other = client(&server);
    let mut waiting = tokio::spawn(async move { other.get_jwks(GetJwksRequest {}).await });
    assert!(timeout(PAUSE, &mut waiting).await.is_err(), "the first call is not refused");
    assert_refused!(client(&server).get_jwks(GetJwksRequest {}).await, ResourceExhausted, "OVERLOADED");
    waiting.abort();
    assert!(waiting.await.expect_err("aborted").is_cancelled());
    let mut client = client(&server);
    assert!(timeout(PAUSE, client.get_jwks(GetJwksRequest {})).await.is_err(), "the aborted call has made room");
}

#[tokio::test]
async fn panic_of_a_method_is_an_internal_error() {
    let server = start(&[], || async { panic!("a secret cause") }).await;
    assert_refused!(client(&server).get_jwks(GetJwksRequest {}).await, Internal, "INTERNAL");
}

#[tokio::test]
async fn panic_in_a_response_body_ends_only_this_response() {
    let channel = start_function(|_| {
        let frames = stream::iter(["a", "b"]).map(|text| match text {
            "b" => panic!("a secret cause"),
            _ => Ok::<_, Status>(Frame::data(Bytes::from(text))),
        });
        ready(Response::new(Body::new(StreamBody::new(frames))))
    })
    .await;
    for _ in 0..2 {
        let mut body = send(&channel, request("/")).await.into_body();
        assert_eq!(body.frame().await.expect("a frame").expect("data").into_data().expect("data"), "a");
        let error = body.frame().await.expect("an error").map(drop);
        assert_refused!(error, Internal, "INTERNAL");
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn extensions_of_the_caller_do_not_reach_the_server() {
    let channel = start_function(|request: Request<Body>| {
        let extensions = request.extensions();
        let (has_tls, has_text) = (extensions.get::<TlsInfo>().is_some(), extensions.get::<&str>().is_some());
        let peer = extensions.get::<TcpConnectInfo>().and_then(|peer| peer.remote_addr).expect("a peer");
        ready(Response::new(Body::new(format!("{has_tls} {has_text} {}", peer.ip()))))
    })
    .await;
    let mut request = request("/");
    let peer = "203.0.113.7:9".parse().expect("an address");
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(peer) });
    request.extensions_mut().insert(TlsInfo { peer: None });
    request.extensions_mut().insert("of the caller");
    let body = send(&channel, request).await.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "false false 127.0.0.1");
}

#[tokio::test]
async fn response_is_produced_at_the_pace_of_its_reader() {
    let produced = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&produced);
    let channel = start_function(move |_| {
        let count = Arc::clone(&count);
        let frames = stream::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))
        });
        ready(Response::new(Body::new(StreamBody::new(frames))))
    })
    .await;
    let mut body = send(&channel, request("/")).await.into_body();
    for read in 1..4 {
        body.frame().await.expect("a frame").expect("data");
        assert_eq!(produced.load(Ordering::Relaxed), read);
    }
}

#[tokio::test]
async fn dropped_response_cancels_its_stream() {
    let (sender, is_dropped) = oneshot::channel::<()>();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let channel = start_function(move |request: Request<Body>| {
        let is_watched = request.uri().path() == "/watched";
        let guard = is_watched.then(|| sender.lock().expect("no panic").take());
        let frames = stream::pending::<Result<Frame<Bytes>, Status>>().inspect(move |_| _ = &guard);
        ready(Response::new(Body::new(StreamBody::new(frames))))
    })
    .await;
    let mut body = send(&channel, request("/watched")).await.into_body();
    assert!(timeout(PAUSE, body.frame()).await.is_err(), "the stream is open");
    drop(body);
    timeout(TIMEOUT, is_dropped).await.expect("dropped").expect_err("the sender is dropped");
}

#[tokio::test]
async fn shutdown_waits_for_calls_and_refuses_new_ones() {
    let (release, (started, mut calls)) = (Arc::new(Notify::new()), mpsc::channel(1));
    let wait = Arc::clone(&release);
    let mut server = start(&[], move || {
        let (wait, started) = (Arc::clone(&wait), started.clone());
        async move {
            started.send(()).await.expect("the test waits");
            wait.notified().await;
            Ok(JwkSet::default())
        }
    })
    .await;
    let mut first = client(&server);
    let first = tokio::spawn(async move { first.get_jwks(GetJwksRequest {}).await });
    calls.recv().await.expect("the call has started");
    server.shutdown.cancel();
    assert!(timeout(PAUSE, &mut server.running).await.is_err(), "a call is in progress");
    assert_eq!(server.in_process.clone().call(request("/")).await.expect_err("refused"), NotServing);
    release.notify_one();
    first.await.expect("no panic").expect("the call in progress succeeds");
    timeout(TIMEOUT, server.running).await.expect("ended").expect("no panic").expect("served");
}

#[tokio::test]
async fn shutdown_ends_streams() {
    let server = start(&[], empty).await;
    let stream = client(&server).watch_revocations(WatchRevocationsRequest::default()).await;
    server.shutdown.cancel();
    assert_refused!(stream.expect("a stream").into_inner().message().await, Unavailable, "SHUTTING_DOWN");
    timeout(TIMEOUT, server.running).await.expect("ended").expect("no panic").expect("served");
}

#[tokio::test]
async fn server_that_has_not_started_refuses_calls() {
    assert_eq!(InProcessChannel::default().call(request("/")).await.expect_err("refused"), NotServing);
}
