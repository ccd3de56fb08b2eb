//! The end of servers and of old connections: what happens to calls and streams in progress.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt;
use service_kit::assert_refused;
use taskey_proto::auth::v1::{GetJwksRequest, WatchRevocationsRequest, token_service_client::TokenServiceClient};
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use crate::server::{GET_JWKS, Server, connect_http2, empty, never};

/// Starts a server whose calls notify that they have started, and end when they are told to.
async fn start_with_long_call(flags: &[&str]) -> (Server, Arc<Notify>, Arc<Notify>) {
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (handler_started, handler_finish) = (Arc::clone(&started), Arc::clone(&finish));
    let server = Server::start(flags, move || {
        let (started, finish) = (Arc::clone(&handler_started), Arc::clone(&handler_finish));
        async move {
            started.notify_one();
            finish.notified().await;
            empty().await
        }
    })
    .await;
    (server, started, finish)
}

#[tokio::test]
async fn call_in_progress_is_completed_during_shutdown() {
    let (server, started, finish) = start_with_long_call(&[]).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let call = tokio::spawn(async move { client.get_jwks(GetJwksRequest {}).await });
    started.notified().await;
    server.shutdown.cancel();
    // The listener closes before the calls have ended.
    let listener_closed = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(Duration::from_secs(5), listener_closed).await.expect("new connections are refused");
    finish.notify_one();
    call.await.expect("no panic").expect("the call succeeds");
    server.running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn streams_end_at_shutdown_with_a_reason() {
    let server = Server::start(&["--drain-timeout", "60s"], empty).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let mut feed = client.watch_revocations(WatchRevocationsRequest {}).await.expect("open").into_inner();
    server.shutdown.cancel();
    let status = loop {
        match feed.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_refused!(Err::<(), _>(status), Unavailable, "SHUTTING_DOWN");
    timeout(Duration::from_secs(5), server.running).await.expect("ends").expect("no panic").expect("no error");
}

#[tokio::test]
async fn open_calls_and_connections_are_closed_after_the_drain_timeout() {
    let server = Server::start(&["--drain-timeout", "100ms", "--request-timeout", "60s"], never).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let call = tokio::spawn(async move { client.get_jwks(GetJwksRequest {}).await });
    let idle_connection = TcpStream::connect(server.address).await.expect("connected");
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.running).await.expect("ends").expect("no panic").expect("no error");
    drop((call, idle_connection));
}

#[tokio::test]
async fn call_in_progress_is_completed_on_an_old_connection() {
    let (server, started, finish) = start_with_long_call(&["--max-connection-age", "100ms"]).await;
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    let request = http::Request::post(GET_JWKS).header("content-type", "application/grpc");
    let call = client.send_request(request.body("\0\0\0\0\0".to_owned()).expect("a request"));
    started.notified().await;
    // After GOAWAY, the connection accepts no further calls. Calls of an unknown method return at once.
    let goaway_received = async {
        let unknown = || http::Request::post("/unknown/Unknown").header("content-type", "application/grpc");
        while client.send_request(unknown().body(String::new()).expect("a request")).await.is_ok() {}
    };
    timeout(Duration::from_secs(4), goaway_received).await.expect("GOAWAY is received before the call ends");
    finish.notify_one();
    let response = call.await.expect("a response").collect().await.expect("a body");
    assert_eq!(response.trailers().expect("trailers")["grpc-status"], "0");
}

#[tokio::test]
async fn stream_ends_after_the_grace_period_of_an_old_connection() {
    let flags = ["--max-connection-age", "100ms", "--max-connection-age-grace", "100ms"];
    let server = Server::start(&flags, empty).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let mut feed = client.watch_revocations(WatchRevocationsRequest {}).await.expect("open").into_inner();
    let ended = timeout(Duration::from_secs(5), feed.message()).await.expect("ends in time");
    assert_refused!(ended, Unavailable, "SHUTTING_DOWN");
    server.call().await.expect("the client opens another connection");
}
