//! Services in the process of the gateway.

use std::time::Duration;

use bytes::Bytes;
use gateway::config::InProcessServices;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use service_kit::{
    assert_refused,
    ops::secret_file::Key,
    server::{connection::Listener, in_process::InProcessChannel},
};
use taskey_proto::task::v1::{
    GetTaskRequest, Task, WatchTasksRequest, WatchTasksResponse, task_service_client::TaskServiceClient,
};
use tokio::{net::TcpListener, time::timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    fake_backend::TIMEOUT,
    program::{Program, with_header},
    support::{FakeBackend, Reply, config},
};

/// A gateway, and the services in its process.
struct Process {
    program: Program,
    auth: FakeBackend,
    task: FakeBackend,
}

/// Starts a service that is called over a channel.
async fn service(channel: &InProcessChannel, reply: Reply) -> FakeBackend {
    let listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
    FakeBackend::start_on(listener.with_in_process(channel.clone()), reply, Some(ServingStatus::Serving))
}

impl Process {
    /// Starts a gateway whose services send `reply`, and waits until they serve.
    async fn start(reply: Reply) -> Self {
        let services = InProcessServices::default();
        let auth = service(&services.auth, reply.clone()).await;
        let task = service(&services.task, reply).await;
        let mut config = config(&[]);
        config.service_token.service_token = Some(Key::new([7; 32]));
        config.in_process = Some(services);
        let program = Program::start(config).await;
        program.get("/readyz").await.ok();
        Self { program, auth, task }
    }

    fn client(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(
            Endpoint::from_shared(format!("http://{}", self.program.address)).unwrap().connect_lazy(),
        )
    }

    fn watch(&self) -> Request<Full<Bytes>> {
        with_header(self.program.request(Method::GET, "/v1/tasks:watch", ""), "accept", "text/event-stream")
    }
}

fn task() -> Task {
    Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() }
}

#[tokio::test]
async fn unary_call_is_served_over_both_protocols() {
    let process = Process::start(Reply::message(&task())).await;
    assert_eq!(process.program.get("/v1/tasks/x").await.ok()["title"], "Buy milk");
    let request = GetTaskRequest { id: "x".to_owned() };
    assert_eq!(process.client().get_task(request).await.unwrap().into_inner(), task());
    for call in process.task.calls() {
        assert_eq!(
            (&call.rpc[..], &call.message::<GetTaskRequest>().id[..]),
            ("/taskey.task.v1.TaskService/GetTask", "x")
        );
        assert_eq!(call.values("x-request-id").len(), 1);
    }
}

#[tokio::test]
async fn client_info_is_forwarded_to_auth_service_only() {
    let process = Process::start(Reply::Echo).await;
    for path in ["/v1/auth/login", "/v1/tasks"] {
        let request = process.program.request(Method::POST, path, "{}");
        let request =
            with_header(with_header(request, "x-forwarded-for", "198.51.100.1"), "x-taskey-service-token", "guess");
        process.program.send(request).await;
    }
    let (auth, task) = (process.auth.call(), process.task.call());
    assert_eq!(auth.values("x-forwarded-for"), ["127.0.0.1"]);
    assert!(auth.values("x-taskey-service-token")[0].starts_with("taskey_service_"));
    assert!(task.values("x-forwarded-for").is_empty() && task.values("x-taskey-service-token").is_empty());
}

#[tokio::test]
async fn stream_is_forwarded_and_ends_when_its_client_disconnects() {
    let (sender, reply) = Reply::stream();
    let process = Process::start(reply).await;
    let mut messages = process.client().watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    let sent = WatchTasksResponse { sync_token: "one".to_owned(), ..WatchTasksResponse::default() };
    sender.send(&sent).await;
    assert_eq!(timeout(TIMEOUT, messages.message()).await.unwrap().unwrap(), Some(sent));
    drop(messages);
    sender.cancelled().await;
}

#[tokio::test]
async fn events_are_forwarded_and_end_when_their_client_disconnects() {
    let (sender, reply) = Reply::stream();
    let process = Process::start(reply).await;
    let mut body = process.program.open(process.watch()).await.into_body();
    sender.send(&WatchTasksResponse { sync_token: "one".to_owned(), ..WatchTasksResponse::default() }).await;
    let mut text = String::new();
    while !text.contains("id: one") {
        let frame = timeout(TIMEOUT, body.frame()).await.unwrap().expect("a frame").unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    drop(body);
    sender.cancelled().await;
}

#[tokio::test]
async fn unary_call_ends_when_its_client_disconnects() {
    let (sender, reply) = Reply::stream();
    let process = Process::start(reply).await;
    let request = process.program.request(Method::GET, "/v1/tasks/x", "");
    let waiting = timeout(Duration::from_millis(200), process.program.open(request)).await;
    assert!(waiting.is_err(), "the service has not responded");
    sender.cancelled().await;
}

#[tokio::test]
async fn panic_of_a_service_fails_only_its_call() {
    let process = Process::start(Reply::from_fn(|call| {
        assert!(call.message::<GetTaskRequest>().id == "x", "a secret cause");
        Reply::message(&task())
    }))
    .await;
    let (mut grpc, request) = (process.client(), |id: &str| GetTaskRequest { id: id.to_owned() });
    let mut other = grpc.clone();
    let good = async { other.get_task(request("x")).await.map(drop) };
    let (bad, good) = tokio::join!(grpc.get_task(request("y")), good);
    good.unwrap();
    assert_refused!(bad, Internal, "INTERNAL");
    process.program.get("/v1/tasks/y").await.assert_refused(500, "INTERNAL", "INTERNAL", &[]);
}

#[tokio::test]
async fn service_that_does_not_serve_is_unavailable() {
    let mut config = config(&[]);
    config.in_process = Some(InProcessServices::default());
    let program = Program::start(config).await;
    let response = program.get("/v1/tasks/x").await;
    response.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
    assert_eq!(response.header("retry-after"), "1");
    program.get("/readyz").await.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
}
