//! gRPC on the gateway's own port, with a real client.

use std::time::Duration;

use http::Method;
use service_kit::{
    assert_refused,
    ops::secret_file::Key,
    status::ApiError,
    testing::{call_raw, refusal},
};
use taskey_proto::{
    auth::v1::{LoginRequest, auth_service_client::AuthServiceClient},
    errors::v1::ErrorReason,
    task::v1::{GetTaskRequest, Task, WatchTasksRequest, WatchTasksResponse, task_service_client::TaskServiceClient},
};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;

use crate::{
    fake_backend::LIMIT,
    program::{NOBODY, Program, reporting, with_header},
    support::{FakeBackend, Reply, config},
};

fn channel(program: &Program) -> Channel {
    Endpoint::from_shared(format!("http://{}", program.address)).unwrap().connect_lazy()
}

/// A gateway before a task-service that does this, and a client of it.
async fn before(reply: Reply) -> (FakeBackend, Program, TaskServiceClient<Channel>) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    let client = TaskServiceClient::new(channel(&program));
    (backend, program, client)
}

fn task() -> Task {
    Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() }
}

fn get() -> Request<GetTaskRequest> {
    Request::new(GetTaskRequest { id: "x".to_owned() })
}

#[tokio::test]
async fn a_call_goes_through_as_it_is() {
    let (backend, _program, mut client) = before(Reply::message(&task())).await;
    assert_eq!(client.get_task(get()).await.unwrap().into_inner(), task());
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/GetTask");
    assert_eq!(backend.call().message::<GetTaskRequest>().id, "x");
}

#[tokio::test]
async fn a_stream_goes_through_message_by_message() {
    let (feeder, reply) = Reply::stream();
    let (_backend, _program, mut client) = before(reply).await;
    let mut messages = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    for token in ["one", "two"] {
        let told = WatchTasksResponse { sync_token: token.to_owned(), ..WatchTasksResponse::default() };
        feeder.send(&told).await;
        assert_eq!(timeout(LIMIT, messages.message()).await.unwrap().unwrap(), Some(told));
    }
    feeder.refuse(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "it has ended")).await;
    assert_refused!(messages.message().await, Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_stream_ends_when_the_server_does() {
    let (feeder, reply) = Reply::stream();
    let (_backend, program, mut client) = before(reply).await;
    let mut messages = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    feeder.send(&WatchTasksResponse::default()).await;
    messages.message().await.unwrap().expect("a message");
    program.shutdown.cancel();
    assert_refused!(messages.message().await, Unavailable, "SHUTTING_DOWN");
    timeout(LIMIT, program.running).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_call_goes_when_its_caller_goes() {
    let (feeder, reply) = Reply::stream();
    let (_backend, _program, mut client) = before(reply).await;
    drop(client.watch_tasks(WatchTasksRequest::default()).await.unwrap());
    feeder.cancelled().await;
}

#[tokio::test]
async fn a_status_goes_through_with_its_details_and_metadata() {
    let refusal = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, "title: ist leer – ü")
        .field("task.title", "is empty");
    let mut status = Status::from(refusal);
    status.metadata_mut().insert("x-more", "said".parse().unwrap());
    let unknown = Status::with_details(Code::DataLoss, "strange", vec![1, 2, 3].into());
    for status in [status, unknown] {
        let (_backend, _program, mut client) = before(Reply::Refuse(status.clone())).await;
        let found = client.get_task(get()).await.unwrap_err();
        assert_eq!(
            (found.code(), found.message(), found.details(), found.metadata().get("x-more")),
            (status.code(), status.message(), status.details(), status.metadata().get("x-more"))
        );
    }
}

#[tokio::test]
async fn metadata_goes_through_and_the_request_gets_an_id() {
    let (backend, _program, mut client) = before(Reply::message(&task())).await;
    let mut request = get();
    request.metadata_mut().insert("authorization", "Bearer a".parse().unwrap());
    request.metadata_mut().append("x-other", "b".parse().unwrap());
    request.metadata_mut().append("x-other", "c".parse().unwrap());
    request.metadata_mut().insert_bin("x-more-bin", MetadataValue::from_bytes(&[0, 255]));
    client.get_task(request).await.unwrap();
    let call = backend.call();
    assert_eq!((call.values("authorization"), call.values("x-other")), (vec!["Bearer a"], vec!["b", "c"]));
    assert_eq!(call.values("x-more-bin"), ["AP8"]);
    assert_eq!(call.values("x-request-id")[0].len(), 36);
}

#[tokio::test]
async fn the_id_that_a_caller_gives_is_kept() {
    let (backend, _program, mut client) = before(Reply::message(&task())).await;
    let mut request = get();
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    client.get_task(request).await.unwrap();
    assert_eq!(backend.call().values("x-request-id"), ["mine"]);
}

/// What only the gateway may say, and a cookie, which is a browser's.
fn spoof<M>(mut request: Request<M>) -> Request<M> {
    for (name, value) in [
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-user-agent", "evil"),
        ("x-taskey-service-token", "guess"),
        ("cookie", "taskey_access=a"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn what_a_client_claims_to_be_is_dropped() {
    let (auth, task) = (FakeBackend::start(Reply::Echo).await, FakeBackend::start(Reply::Echo).await);
    let mut config = config(&["--auth-url", &auth.url(), "--task-url", &task.url()]);
    config.service_token.service_token = Some(Key::new([7; 32]));
    let program = Program::start(config).await;
    AuthServiceClient::new(channel(&program)).login(spoof(Request::new(LoginRequest::default()))).await.unwrap();
    TaskServiceClient::new(channel(&program)).get_task(spoof(get())).await.unwrap();
    let call = auth.call();
    assert_eq!(call.values("x-forwarded-for"), ["127.0.0.1"]);
    assert!(call.values("x-forwarded-user-agent")[0].starts_with("tonic/"));
    assert!(call.values("x-taskey-service-token")[0].starts_with("taskey_service_"));
    for name in ["x-forwarded-for", "x-forwarded-user-agent", "x-taskey-service-token"] {
        assert!(task.call().values(name).is_empty(), "{name}");
    }
    assert!(call.values("cookie").is_empty() && task.call().values("cookie").is_empty());
}

#[tokio::test]
async fn what_nobody_serves_is_unknown() {
    let (backend, program, _client) = before(Reply::Echo).await;
    for path in ["/no.such.Service/Get", "/taskey.taskier.v1.S/Get", "/grpc.no.such.Service/Get", "/x", "/"] {
        let called = call_raw(&channel(&program), path, Request::new(Vec::new())).await;
        assert_refused!(called, Unimplemented, "METHOD_UNKNOWN");
    }
    assert_refused!(
        call_raw(&channel(&program), "/grpc.health.v1.Health/No", Request::new(Vec::new())).await,
        Unimplemented,
        "METHOD_UNKNOWN",
    );
    assert!(!backend.was_called());
}

#[tokio::test]
async fn an_unknown_method_is_for_its_service_to_refuse() {
    let unknown = ApiError::new(Code::Unimplemented, ErrorReason::MethodUnknown, "no such method");
    let (backend, program, _client) = before(Reply::Refuse(unknown.into())).await;
    let called = call_raw(&channel(&program), "/taskey.task.v1.TaskService/No", Request::new(Vec::new())).await;
    assert_refused!(called, Unimplemented, "METHOD_UNKNOWN");
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/No");
}

#[tokio::test]
async fn a_service_that_is_away_says_when_to_come_again() {
    let program = Program::before(NOBODY, NOBODY).await;
    let mut client = TaskServiceClient::new(channel(&program));
    let mut request = get();
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let status = client.get_task(request).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned(), Vec::new()));
    let details = status.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(details.request_info().unwrap().request_id, "mine");
    let streamed = client.watch_tasks(WatchTasksRequest::default()).await;
    assert_refused!(streamed, Unavailable, "BACKEND_UNAVAILABLE");
}

#[tokio::test]
async fn the_deadline_goes_through() {
    let (backend, _program, mut client) = before(Reply::message(&task())).await;
    let mut request = get();
    request.set_timeout(Duration::from_secs(7));
    client.get_task(request).await.unwrap();
    assert_eq!(backend.call().values("grpc-timeout"), ["7000000u"]);
}

#[tokio::test]
async fn health_is_that_of_the_services() {
    let ((auth_health, auth), (_task_health, task)) =
        (reporting(ServingStatus::Serving).await, reporting(ServingStatus::Serving).await);
    let program = Program::before(&auth, &task).await;
    let mut client = HealthClient::new(channel(&program));
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.map(|answer| answer.into_inner().status())
    };
    let name = "taskey.auth.v1.AuthService";
    auth_health.set_service_status(name, ServingStatus::NotServing).await;
    assert_eq!(check("").await.unwrap() as i32, 1);
    assert_eq!(check(name).await.unwrap() as i32, 2);
    assert_refused!(check("no.such.Service").await, NotFound, "METHOD_UNKNOWN");
    assert_refused!(check("taskey.auth.v1.No").await, NotFound, "METHOD_UNKNOWN");
    let program = Program::before(&auth, NOBODY).await;
    let answer = HealthClient::new(channel(&program)).check(HealthCheckRequest::default()).await;
    assert_eq!(answer.unwrap().into_inner().status, 2);
}

#[tokio::test]
async fn a_watch_tells_when_health_changes_and_ends_with_the_server() {
    let ((health, auth), (_task_health, task)) =
        (reporting(ServingStatus::Serving).await, reporting(ServingStatus::Serving).await);
    let program = Program::before(&auth, &task).await;
    let mut client = HealthClient::new(channel(&program));
    let mut told = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.message().await.unwrap().unwrap().status, 1);
    health.set_service_status("", ServingStatus::NotServing).await;
    assert_eq!(timeout(LIMIT, told.message()).await.unwrap().unwrap().unwrap().status, 2);
    program.shutdown.cancel();
    assert_refused!(told.message().await, Unavailable, "SHUTTING_DOWN");
}

#[tokio::test]
async fn reflection_describes_all_services() {
    let program = Program::before(NOBODY, NOBODY).await;
    let request = |ask| ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let asked = [
        request(MessageRequest::ListServices(String::new())),
        request(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
    ];
    let mut client = ServerReflectionClient::new(channel(&program));
    let answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(list), MessageResponse::FileDescriptorResponse(file)] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| &service.name[..]).collect();
    for name in ["taskey.auth.v1.AuthService", "taskey.task.v1.TaskService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!file.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn grpc_needs_http2() {
    let program = Program::before(NOBODY, NOBODY).await;
    let request = program.request(Method::POST, "/taskey.task.v1.TaskService/GetTask", "");
    assert_eq!(program.send(with_header(request, "content-type", "application/grpc")).await.code, 400);
}
