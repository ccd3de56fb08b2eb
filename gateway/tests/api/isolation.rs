//! Clients that do not read, do not send, or ask too often, and what others notice of them.

use std::{net::IpAddr, time::Duration};

use futures::future::join_all;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use service_kit::{assert_refused, testing::refusal};
use taskey_proto::task::v1::{
    GetTaskRequest, ListTasksRequest, ListTasksResponse, Task, WatchTasksRequest, WatchTasksResponse,
    task_service_client::TaskServiceClient,
};
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Status, Streaming,
    body::Body,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::{
    errors::FaultyBody,
    fake_backend::{Call, TIMEOUT},
    program::{Program, UNREACHABLE},
    support::{FakeBackend, Reply, TestGateway, config},
};

const LIST: &str = "/taskey.task.v1.TaskService/ListTasks";

/// The shortest interval of the polls of the gateway, and the number of health checks of a poll of task-service. A
/// service that responds late counts as not serving, and is polled more often.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const CHECKS_PER_POLL: usize = 3;

/// Returns a new connection from the loopback address with this last byte.
fn channel_from(program: &Program, host: u8) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", program.address)).unwrap();
    endpoint.local_address(Some(IpAddr::from([127, 0, 0, host]))).connect_lazy()
}

fn list_of(tasks: usize) -> ListTasksResponse {
    let task = Task { notes: "x".repeat(100_000), ..Task::default() };
    ListTasksResponse { tasks: vec![task; tasks], ..ListTasksResponse::default() }
}

/// Starts a gateway whose task-service sends `reply`.
async fn start(reply: Reply, flags: &[&str]) -> (FakeBackend, Program) {
    let backend = FakeBackend::start(reply).await;
    let url = backend.url();
    let flags = [&["--auth-url", UNREACHABLE, "--task-url", &url], flags].concat();
    (backend, Program::start(config(&flags)).await)
}

/// Calls an RPC on a new connection and does not read the response.
async fn call_unread(program: &Program, rpc: &str) -> http::Response<hyper::body::Incoming> {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(65_535)
        .http2_initial_connection_window_size(65_535)
        .build_http();
    let message = Body::new(http_body_util::Full::from(vec![0; 5]));
    let request = Request::post(format!("http://{}{rpc}", program.address)).header("content-type", "application/grpc");
    client.request(request.header("te", "trailers").body(message).unwrap()).await.unwrap()
}

#[tokio::test]
async fn unread_unary_responses_do_not_delay_others() {
    let (_backend, program) = start(Reply::message(&list_of(30)), &[]).await;
    let _unread = join_all((0..4).map(|_| call_unread(&program, LIST))).await;
    let mut client = TaskServiceClient::new(channel_from(&program, 2)).max_decoding_message_size(usize::MAX);
    let list = timeout(TIMEOUT, client.list_tasks(ListTasksRequest::default())).await.expect("a response");
    assert_eq!(list.unwrap().into_inner(), list_of(30));
}

#[tokio::test]
async fn client_with_too_many_unread_bytes_is_refused_and_others_are_not() {
    let (_backend, program) = start(Reply::message(&list_of(40)), &[]).await;
    let mut unread = join_all((0..4).map(|_| call_unread(&program, LIST))).await;
    assert!(unread.iter().all(|response| !response.headers().contains_key("grpc-status")), "{unread:?}");
    let list = async |host| {
        let mut client = TaskServiceClient::new(channel_from(&program, host)).max_decoding_message_size(usize::MAX);
        client.list_tasks(ListTasksRequest::default()).await
    };
    let refused = list(1).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned(), Vec::new()));
    assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    list(2).await.unwrap();
    unread.pop().unwrap().into_body().collect().await.unwrap();
    list(1).await.unwrap();
}

#[tokio::test]
async fn responses_that_a_client_does_not_read_are_reset() {
    let flags = ["--keepalive-interval", "500ms", "--keepalive-timeout", "500ms"];
    let (_backend, program) = start(Reply::message(&list_of(40)), &flags).await;
    let idle = Reply::from_fn(|_| endless_streams());
    let (_idle_backend, idle_program) = start(idle, &flags).await;
    let mut watch = watch(&idle_program, 1).await.expect("a stream");
    let unread = join_all((0..4).map(|_| call_unread(&program, LIST))).await;
    let mut client = TaskServiceClient::new(channel_from(&program, 1)).max_decoding_message_size(usize::MAX);
    client.list_tasks(ListTasksRequest::default()).await.expect_err("too many unread bytes");
    let released = async { while client.list_tasks(ListTasksRequest::default()).await.is_err() {} };
    timeout(TIMEOUT, released).await.expect("the memory is released");
    for response in unread {
        response.into_body().collect().await.expect_err("reset");
    }
    let idle = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(idle.is_err(), "an idle stream continues, but: {idle:?}");
}

async fn watch(program: &Program, host: u8) -> Result<Streaming<WatchTasksResponse>, Status> {
    let mut client = TaskServiceClient::new(channel_from(program, host));
    client.watch_tasks(WatchTasksRequest::default()).await.map(tonic::Response::into_inner)
}

/// A service whose streams never end.
fn endless_streams() -> Reply {
    Reply::from_fn(|_| {
        let (sender, reply) = Reply::stream();
        // The stream ends when its sender is dropped.
        std::mem::forget(sender);
        reply
    })
}

#[tokio::test]
async fn client_with_too_many_streams_is_refused_and_others_are_not() {
    let (_backend, program) = start(endless_streams(), &["--max-streams", "1"]).await;
    // Each of the 8 connections to the service has one stream, and one client may have half of them.
    let mut streams = join_all((0..4).map(|_| watch(&program, 1))).await;
    assert!(streams.iter().all(Result::is_ok), "{streams:?}");
    assert_refused!(watch(&program, 1).await, ResourceExhausted, "OVERLOADED");
    let _others = watch(&program, 2).await.expect("not refused");
    streams.pop();
    let accepted = async { while watch(&program, 1).await.is_err() {} };
    timeout(TIMEOUT, accepted).await.expect("accepted after a stream has ended");
}

#[tokio::test]
async fn calls_and_streams_have_connections_of_their_own() {
    let reply = Reply::from_fn(|call| if call.rpc.ends_with("/WatchTasks") { endless_streams() } else { Reply::Echo });
    let (_backend, program) = start(reply, &["--max-streams", "1"]).await;
    let streams = join_all((0..8).map(|number| watch(&program, 1 + number % 2))).await;
    assert!(streams.iter().all(Result::is_ok), "{streams:?}");
    assert_refused!(watch(&program, 3).await, ResourceExhausted, "OVERLOADED");
    let mut client = TaskServiceClient::new(channel_from(&program, 3));
    client.get_task(GetTaskRequest::default()).await.expect("not refused");
}

/// A server closes a connection on which many calls are cancelled, and other clients use the same connection.
#[tokio::test]
async fn call_of_a_disconnected_client_is_not_cancelled() {
    let (sender, stream) = Reply::stream();
    let reply = move |call: &Call| if call.rpc == LIST { stream.clone() } else { Reply::Echo };
    let (backend, program) = start(Reply::from_fn(reply), &[]).await;
    let mut client = TaskServiceClient::new(channel_from(&program, 1));
    let called = async {
        while !backend.was_called() {
            tokio::task::yield_now().await;
        }
    };
    let mut other_client = client.clone();
    tokio::select! {
        response = client.list_tasks(ListTasksRequest::default()) => panic!("{response:?}"),
        () = called => {}
    }
    // The gateway has processed the cancellation before it receives these calls on the same connection.
    for _ in 0..10 {
        other_client.get_task(GetTaskRequest::default()).await.expect("not refused");
    }
    assert!(!sender.is_cancelled());
}

#[tokio::test]
async fn health_checks_of_clients_do_not_reach_the_services() {
    let (backend, program) = start(Reply::Echo, &[]).await;
    program.get("/readyz").await;
    let (begun, before) = (Instant::now(), backend.health_checks());
    let channel = channel_from(&program, 1);
    let watches = join_all((0..100).map(|_| async {
        let request = HealthCheckRequest { service: "taskey.task.v1.TaskService".to_owned() };
        HealthClient::new(channel.clone()).watch(request).await.unwrap()
    }));
    let _watches = watches.await;
    for _ in 0..100 {
        program.get("/readyz").await;
    }
    let polls = usize::try_from(begun.elapsed().as_millis() / POLL_INTERVAL.as_millis()).unwrap() + 2;
    let checks = backend.health_checks() - before;
    assert!(checks <= polls * CHECKS_PER_POLL, "{checks} health checks in {polls} polls");
}

/// Returns the status of a gRPC call with this body.
async fn call_with(gateway: &TestGateway, body: FaultyBody) -> Status {
    let request = Request::post("/test.v1.EchoService/Whole").version(Version::HTTP_2);
    let request = request.header("content-type", "application/grpc").header("grpc-timeout", "50m").body(body).unwrap();
    let response = timeout(TIMEOUT, gateway.gateway.handle(request)).await.expect("a response");
    Status::from_header_map(response.headers()).expect("an error")
}

#[tokio::test]
async fn stalled_message_of_a_grpc_call_has_no_effect() {
    let gateway = TestGateway::start().await;
    let status = call_with(&gateway, FaultyBody { panics: false }).await;
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned(), Vec::new()));
    assert!(status.message().contains("no effect"), "{status:?}");
    assert!(!gateway.backend.was_called());
}

#[tokio::test]
async fn panic_while_a_grpc_call_is_forwarded_is_an_internal_error() {
    let gateway = TestGateway::start().await;
    let status = call_with(&gateway, FaultyBody { panics: true }).await;
    assert_eq!(refusal(&status), (Code::Internal, "INTERNAL".to_owned(), Vec::new()));
    gateway.get("/v1/query").await.ok();
}
