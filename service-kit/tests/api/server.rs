//! What happens around every call, and how a server begins and ends.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use clap::Parser;
use futures::stream::{Pending, pending};
use service_kit::{
    assert_refused,
    ops::config::LimitArgs,
    server::{GrpcServer, connection},
    testing::call_raw,
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, IntrospectRequest,
    IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
    token_service_server::{TokenService, TokenServiceServer},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

const GET_JWKS: &str = "/taskey.auth.v1.TokenService/GetJwks";

/// A service whose answer is whatever the test makes of it.
type Answer = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<JwkSet, Status>> + Send>> + Send + Sync>;

struct Stub(Answer);

#[tonic::async_trait]
impl TokenService for Stub {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        (self.0)().await.map(Response::new)
    }

    async fn introspect(&self, _: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        Ok(Response::new(IntrospectResponse::default()))
    }

    async fn acknowledge_revocations(
        &self,
        _: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn list_deleted_users(
        &self,
        _: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        Ok(Response::new(ListDeletedUsersResponse::default()))
    }

    type WatchRevocationsStream = Pending<Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Ok(Response::new(pending()))
    }
}

struct Server {
    address: SocketAddr,
    channel: Channel,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start<F>(flags: &[&str], answer: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<JwkSet, Status>> + Send + 'static,
    {
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let limits = Cli::parse_from([""].iter().chain(flags)).limits;
        let listener =
            connection::bind("127.0.0.1:0".parse().expect("an address"), &limits).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let service = TokenServiceServer::new(Stub(Arc::new(move || Box::pin(answer()))));
        let service = service.max_decoding_message_size(limits.max_request_bytes);
        let server = GrpcServer::new("stub", limits, Duration::from_secs(5)).with(service);
        let (ready, is_ready) = watch::channel(true);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.serve(listener, is_ready, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        Self { address, channel, ready, shutdown, running }
    }

    async fn call(&self) -> Result<JwkSet, Status> {
        TokenServiceClient::new(self.channel.clone()).get_jwks(GetJwksRequest {}).await.map(Response::into_inner)
    }
}

async fn empty() -> Result<JwkSet, Status> {
    Ok(JwkSet::default())
}

async fn never() -> Result<JwkSet, Status> {
    std::future::pending().await
}

#[tokio::test]
async fn a_method_that_is_unknown_is_unimplemented() {
    let server = Server::start(&[], empty).await;
    for path in ["/taskey.auth.v1.TokenService/Nothing", "/no.such.Service/GetJwks", "/", "/x"] {
        let outcome = call_raw(&server.channel, path, Request::new(vec![])).await;
        assert_refused!(outcome, Unimplemented, "METHOD_UNKNOWN");
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_malformed_and_names_nothing() {
    let server = Server::start(&[], empty).await;
    for message in [vec![0xff; 9], vec![0x0a], vec![0x0a, 0x7f, 0x00], b"{}".to_vec()] {
        let status = call_raw(&server.channel, GET_JWKS, Request::new(message)).await.expect_err("refused");
        assert_eq!(status.message(), "the request cannot be decoded");
        assert_refused!(Err::<(), _>(status), InvalidArgument, "MALFORMED_REQUEST");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let server = Server::start(&["--max-request-bytes", "1024"], empty).await;
    let outcome = call_raw(&server.channel, GET_JWKS, Request::new(vec![0; 1025])).await;
    assert_refused!(outcome, ResourceExhausted, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn the_deadline_of_the_server_is_kept() {
    let server = Server::start(&["--request-timeout", "50ms"], never).await;
    assert_refused!(server.call().await, DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn the_deadline_of_the_caller_is_kept_if_it_is_shorter() {
    let server = Server::start(&[], never).await;
    // A client of tonic would keep the deadline itself, so the call is made by hand.
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    for value in ["50m", "50000u", "1n", "0S"] {
        let request = http::Request::post(GET_JWKS)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", value)
            .body("\0\0\0\0\0".to_owned());
        let response = client.send_request(request.expect("a request")).await.expect("answered");
        let status = Status::from_header_map(response.headers()).expect("refused");
        assert_refused!(Err::<(), _>(status), DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
}

#[tokio::test]
async fn a_compressed_message_is_refused_by_a_reason_of_its_own() {
    let server = Server::start(&[], empty).await;
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    let request = http::Request::post(GET_JWKS)
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .body("\x01\0\0\0\x01x".to_owned());
    let response = client.send_request(request.expect("a request")).await.expect("answered");
    let status = Status::from_header_map(response.headers()).expect("refused");
    assert_refused!(Err::<(), _>(status), Unimplemented, "COMPRESSION_UNSUPPORTED");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let server = Server::start(&[], || async { panic!("a secret cause") }).await;
    for _ in 0..3 {
        let status = server.call().await.expect_err("refused");
        assert!(!format!("{status:?}").contains("secret cause"), "{status:?}");
        assert_refused!(Err::<(), _>(status), Internal, "INTERNAL");
    }
}

#[tokio::test]
async fn every_error_bears_the_request_id_that_the_caller_gave() {
    let server = Server::start(&[], || async { Err(Status::not_found("none of ours")) }).await;
    for (given, taken) in [("abc-123", true), ("with space", false), ("", false), (&"x".repeat(129), false)] {
        let mut request = Request::new(vec![]);
        request.metadata_mut().insert("x-request-id", given.parse().expect("ASCII"));
        let status = call_raw(&server.channel, GET_JWKS, request).await.expect_err("refused");
        let told = status.get_error_details().request_info().expect("each error has one").request_id.clone();
        assert_eq!(told == given, taken, "{given:?} {told:?}");
        assert_eq!(status.metadata().get("x-request-id").expect("also as a header"), told.as_str());
        assert!(!told.is_empty());
    }
}

#[tokio::test]
async fn another_content_type_or_none_is_refused() {
    let server = Server::start(&[], || async { panic!("the call came through") }).await;
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    for content_type in [
        None,
        Some(""),
        Some("application/json"),
        Some("application/grpc-web"),
        Some("application/grpcx"),
        Some("text/plain; application/grpc"),
    ] {
        let mut request = http::Request::post(GET_JWKS);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body("\0\0\0\0\0".to_owned()).expect("a request");
        let response = client.send_request(request).await.expect("answered");
        assert_eq!(response.status(), 415, "{content_type:?}");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(!response.headers().contains_key("grpc-status"));
    }
}

async fn connect_http2(
    address: SocketAddr,
) -> (hyper::client::conn::http2::SendRequest<String>, impl Future<Output = Result<(), hyper::Error>> + Send + 'static)
{
    let stream = TcpStream::connect(address).await.expect("connected");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    hyper::client::conn::http2::handshake(executor, io).await.expect("a handshake")
}

/// Waits until the server closes a connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("closed in time");
    // A reset is as good an end as any.
    _ = read;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = Server::start(&["--max-connections", "1"], empty).await;
    server.call().await.expect("the first connection is served");
    let mut second = TcpStream::connect(server.address).await.expect("connected");
    closed(&mut second).await;
    server.call().await.expect("the first connection is still served");
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.channel.clone()).check(request).await.expect("told").into_inner().status()
}

#[tokio::test]
async fn health_follows_readiness_under_each_name() {
    let server = Server::start(&[], empty).await;
    let mut states = HealthClient::new(server.channel.clone())
        .watch(HealthCheckRequest { service: "taskey.auth.v1.TokenService".to_owned() })
        .await
        .expect("told")
        .into_inner();
    let mut next = async || states.message().await.expect("no error").expect("not the end").status();
    while next().await != ServingStatus::Serving {}
    server.ready.send_replace(false);
    while next().await != ServingStatus::NotServing {}
    server.ready.send_replace(true);
    while next().await != ServingStatus::Serving {}
    assert_eq!(health(&server, "").await, ServingStatus::Serving);
    server.shutdown.cancel();
    while next().await != ServingStatus::NotServing {}
}

#[tokio::test]
async fn a_call_under_way_may_end_after_the_shutdown() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun_too, go_too) = (Arc::clone(&begun), Arc::clone(&go));
    let server = Server::start(&[], move || {
        let (begun, go) = (Arc::clone(&begun_too), Arc::clone(&go_too));
        async move {
            begun.notify_one();
            go.notified().await;
            empty().await
        }
    })
    .await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let call = tokio::spawn(async move { client.get_jwks(GetJwksRequest {}).await });
    begun.notified().await;
    server.shutdown.cancel();
    // The listener is closed before the calls have ended.
    let gone = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(Duration::from_secs(5), gone).await.expect("no new connection");
    go.notify_one();
    call.await.expect("no panic").expect("answered");
    server.running.await.expect("no panic").expect("ended well");
}

#[tokio::test]
async fn streams_end_with_the_server_and_say_why() {
    let server = Server::start(&["--drain-timeout", "60s"], empty).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let mut feed = client.watch_revocations(WatchRevocationsRequest {}).await.expect("open").into_inner();
    server.shutdown.cancel();
    let status = loop {
        match feed.message().await {
            Ok(message) => assert!(message.is_some(), "it ended without saying why"),
            Err(status) => break status,
        }
    };
    assert_refused!(Err::<(), _>(status), Unavailable, "SHUTTING_DOWN");
    timeout(Duration::from_secs(5), server.running).await.expect("ends").expect("no panic").expect("ended well");
}

#[tokio::test]
async fn what_does_not_end_by_itself_is_cut_off() {
    let server = Server::start(&["--drain-timeout", "100ms", "--request-timeout", "60s"], never).await;
    let mut client = TokenServiceClient::new(server.channel.clone());
    let feed = tokio::spawn(async move { client.get_jwks(GetJwksRequest {}).await });
    let silent = TcpStream::connect(server.address).await.expect("connected");
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.running).await.expect("ends").expect("no panic").expect("ended well");
    drop((feed, silent));
}

#[tokio::test]
async fn plaintext_beyond_loopback_needs_a_word() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let strict = Cli::parse_from([""]).limits;
    assert!(connection::bind(everywhere, &strict).await.is_err());
    let lax = Cli::parse_from(["", "--insecure-plaintext"]).limits;
    let _: TcpListener = connection::bind(everywhere, &lax).await.expect("allowed");
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_a_token_is_none_of_them() {
    let server = Server::start(&["--max-header-bytes", "8192"], empty).await;
    let call = async |name: &'static str, bytes: usize| {
        let mut request = Request::new(Vec::new());
        request.metadata_mut().insert(name, "x".repeat(bytes).parse().expect("ASCII"));
        call_raw(&server.channel, GET_JWKS, request).await
    };
    call("authorization", 20_000).await.expect("whoever reads it refuses it");
    call("x-other", 7_000).await.expect("served");
    assert_refused!(call("x-other", 8_192).await, ResourceExhausted, "MESSAGE_TOO_LARGE");
}
