//! The gRPC server: errors, limits, deadlines and health.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use clap::Parser;
use futures::stream::{Pending, pending};
use service_kit::{
    assert_refused,
    ops::{config::LimitArgs, service_manager::PassedSockets},
    server::{
        GrpcServer,
        connection::{self, Listener},
        in_process::InProcessChannel,
    },
    status::ApiError,
    testing::{call_raw, listen},
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, ExchangePersonalAccessTokenRequest,
    ExchangePersonalAccessTokenResponse, GetJwksRequest, IntrospectRequest, IntrospectResponse, JwkSet,
    ListDeletedUsersRequest, ListDeletedUsersResponse, ListUserChangesRequest, ListUserChangesResponse,
    WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
    token_service_server::{TokenService, TokenServiceServer},
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{io::AsyncReadExt, net::TcpStream, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

pub const GET_JWKS: &str = "/taskey.auth.v1.TokenService/GetJwks";

/// The implementation of `GetJwks`, which each test provides.
type Handler = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<JwkSet, Status>> + Send>> + Send + Sync>;

struct Stub(Handler);

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

    async fn exchange_personal_access_token(
        &self,
        _: Request<ExchangePersonalAccessTokenRequest>,
    ) -> Result<Response<ExchangePersonalAccessTokenResponse>, Status> {
        Err(Status::not_found("there are no tokens"))
    }

    async fn list_deleted_users(
        &self,
        _: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        Ok(Response::new(ListDeletedUsersResponse::default()))
    }

    async fn list_user_changes(
        &self,
        _: Request<ListUserChangesRequest>,
    ) -> Result<Response<ListUserChangesResponse>, Status> {
        Ok(Response::new(ListUserChangesResponse::default()))
    }

    type WatchRevocationsStream = Pending<Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Ok(Response::new(pending()))
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub channel: Channel,
    /// Calls the server without a socket.
    pub in_process: InProcessChannel,
    ready: watch::Sender<bool>,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start<F>(flags: &[&str], handler: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<JwkSet, Status>> + Send + 'static,
    {
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let limits = Cli::parse_from([""].iter().chain(flags)).limits;
        let in_process = InProcessChannel::default();
        let listener = listen(&limits, None).await.with_in_process(in_process.clone());
        let address = listener.local_addr().expect("an address");
        let service = TokenServiceServer::new(Stub(Arc::new(move || Box::pin(handler()))));
        let service = service.max_decoding_message_size(limits.max_request_bytes);
        let server = GrpcServer::new("stub", limits, Duration::from_secs(5)).with(service);
        let (ready, is_ready) = watch::channel(true);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.serve(listener, is_ready, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        Self { address, channel, in_process, ready, shutdown, running }
    }

    pub async fn call(&self) -> Result<JwkSet, Status> {
        TokenServiceClient::new(self.channel.clone()).get_jwks(GetJwksRequest {}).await.map(Response::into_inner)
    }
}

pub async fn empty() -> Result<JwkSet, Status> {
    Ok(JwkSet::default())
}

pub async fn never() -> Result<JwkSet, Status> {
    std::future::pending().await
}

#[tokio::test]
async fn unknown_method_is_unimplemented() {
    let server = Server::start(&[], empty).await;
    for path in ["/taskey.auth.v1.TokenService/Nothing", "/no.such.Service/GetJwks", "/", "/x"] {
        let outcome = call_raw(&server.channel, path, Request::new(vec![])).await;
        assert_refused!(outcome, Unimplemented, "METHOD_UNKNOWN");
    }
}

#[tokio::test]
async fn undecodable_request_is_malformed_and_reveals_no_details() {
    let server = Server::start(&[], empty).await;
    for message in [vec![0xff; 9], vec![0x0a], vec![0x0a, 0x7f, 0x00], b"{}".to_vec()] {
        let status = call_raw(&server.channel, GET_JWKS, Request::new(message)).await.expect_err("refused");
        assert_eq!(status.message(), "the request cannot be decoded");
        assert_refused!(Err::<(), _>(status), InvalidArgument, "MALFORMED_REQUEST");
    }
}

#[tokio::test]
async fn too_large_message_is_refused() {
    let server = Server::start(&["--max-request-bytes", "1024"], empty).await;
    let outcome = call_raw(&server.channel, GET_JWKS, Request::new(vec![0; 1025])).await;
    assert_refused!(outcome, ResourceExhausted, "MESSAGE_TOO_LARGE");
}

/// An empty element of a repeated field has two bytes, and needs a hundred times as many in memory.
#[tokio::test]
async fn request_with_too_many_fields_is_refused_before_it_is_decoded() {
    let server = Server::start(&[], empty).await;
    let request = |fields| Request::new([0x0a, 0].repeat(fields));
    let outcome = call_raw(&server.channel, GET_JWKS, request(1001)).await;
    assert_refused!(outcome, ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert!(call_raw(&server.channel, GET_JWKS, request(1000)).await.is_ok());
}

#[tokio::test]
async fn deadline_of_the_server_is_enforced() {
    let server = Server::start(&["--request-timeout", "50ms"], never).await;
    assert_refused!(server.call().await, DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn shorter_deadline_of_the_caller_is_enforced() {
    let server = Server::start(&[], never).await;
    // A tonic client would enforce the deadline itself, so the request is built by hand.
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    for value in ["50m", "50000u", "1n", "0S"] {
        let request = http::Request::post(GET_JWKS)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", value)
            .body("\0\0\0\0\0".to_owned());
        let response = client.send_request(request.expect("a request")).await.expect("a response");
        let status = Status::from_header_map(response.headers()).expect("refused");
        assert_refused!(Err::<(), _>(status), DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
}

#[tokio::test]
async fn compressed_message_is_refused_with_its_own_reason() {
    let server = Server::start(&[], empty).await;
    let (mut client, connection) = connect_http2(server.address).await;
    tokio::spawn(connection);
    let request = http::Request::post(GET_JWKS)
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .body("\x01\0\0\0\x01x".to_owned());
    let response = client.send_request(request.expect("a request")).await.expect("a response");
    let status = Status::from_header_map(response.headers()).expect("refused");
    assert_refused!(Err::<(), _>(status), Unimplemented, "COMPRESSION_UNSUPPORTED");
}

#[tokio::test]
async fn panic_is_an_internal_error_and_the_server_keeps_running() {
    let server = Server::start(&[], || async { panic!("a secret cause") }).await;
    for _ in 0..3 {
        let status = server.call().await.expect_err("refused");
        assert!(!format!("{status:?}").contains("secret cause"), "{status:?}");
        assert_refused!(Err::<(), _>(status), Internal, "INTERNAL");
    }
}

#[tokio::test]
async fn every_error_contains_the_request_id_of_the_caller() {
    let server = Server::start(&[], || async { Err(Status::not_found("not found")) }).await;
    for (sent, is_accepted) in [("abc-123", true), ("with space", false), ("", false), (&"x".repeat(129), false)] {
        let mut request = Request::new(vec![]);
        request.metadata_mut().insert("x-request-id", sent.parse().expect("ASCII"));
        let status = call_raw(&server.channel, GET_JWKS, request).await.expect_err("refused");
        let returned =
            status.get_error_details().request_info().expect("every error has request info").request_id.clone();
        assert_eq!(returned == sent, is_accepted, "{sent:?} {returned:?}");
        assert_eq!(status.metadata().get("x-request-id").expect("also as a header"), returned.as_str());
        assert!(!returned.is_empty());
    }
}

#[tokio::test]
async fn unsupported_or_absent_content_type_is_refused() {
    let server = Server::start(&[], || async { panic!("the call reached the service") }).await;
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
        let response = client.send_request(request).await.expect("a response");
        assert_eq!(response.status(), 415, "{content_type:?}");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(!response.headers().contains_key("grpc-status"));
    }
}

pub async fn connect_http2(
    address: SocketAddr,
) -> (hyper::client::conn::http2::SendRequest<String>, impl Future<Output = Result<(), hyper::Error>> + Send + 'static)
{
    let stream = TcpStream::connect(address).await.expect("connected");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    hyper::client::conn::http2::handshake(executor, io).await.expect("a handshake")
}

/// Waits until the server closes or resets the connection.
async fn wait_until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("closed in time");
    // An error is accepted, because a reset causes one.
    _ = read;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = Server::start(&["--max-connections", "1"], empty).await;
    server.call().await.expect("the first connection is served");
    let mut second = TcpStream::connect(server.address).await.expect("connected");
    wait_until_closed(&mut second).await;
    server.call().await.expect("the first connection is still served");
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.channel.clone()).check(request).await.expect("a response").into_inner().status()
}

#[tokio::test]
async fn health_of_each_service_follows_readiness() {
    let server = Server::start(&[], empty).await;
    let mut states = HealthClient::new(server.channel.clone())
        .watch(HealthCheckRequest { service: "taskey.auth.v1.TokenService".to_owned() })
        .await
        .expect("a stream")
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
async fn error_with_a_retry_delay_has_a_pushback_for_clients_of_grpc() {
    let error = |delay| {
        let error = ApiError::new(Code::Unavailable, ErrorReason::StoreUnavailable, "not now");
        Err(Status::from(error.retry_after(delay)))
    };
    for (delay, pushback) in [(Duration::from_secs(2), "2000"), (Duration::from_micros(1500), "2")] {
        let server = Server::start(&[], move || async move { error(delay) }).await;
        let status = server.call().await.expect_err("refused");
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("a pushback"), pushback);
        assert_eq!(status.get_error_details().retry_info().expect("a delay").retry_delay, Some(delay));
    }
}

#[tokio::test]
async fn plaintext_beyond_loopback_requires_a_flag() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }
    let all_interfaces = "0.0.0.0:0".parse().expect("an address");
    let strict = Cli::parse_from([""]).limits;
    assert!(connection::bind("test", all_interfaces, &strict, None, &mut PassedSockets::default()).await.is_err());
    let lax = Cli::parse_from(["", "--insecure-plaintext"]).limits;
    let _: Listener =
        connection::bind("test", all_interfaces, &lax, None, &mut PassedSockets::default()).await.expect("allowed");
}

#[tokio::test]
async fn too_large_headers_are_refused_but_a_token_does_not_count() {
    let server = Server::start(&["--max-header-bytes", "8192"], empty).await;
    let call = async |name: &'static str, bytes: usize| {
        let mut request = Request::new(Vec::new());
        request.metadata_mut().insert(name, "x".repeat(bytes).parse().expect("ASCII"));
        call_raw(&server.channel, GET_JWKS, request).await
    };
    call("authorization", 20_000).await.expect("the size of a token is checked by its verifier");
    call("x-other", 7_000).await.expect("served");
    assert_refused!(call("x-other", 8_192).await, ResourceExhausted, "MESSAGE_TOO_LARGE");
}
