//! gRPC through the gateway, with a real client.

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
    fake_backend::TIMEOUT,
    program::{Program, UNREACHABLE, reporting_service, with_header},
    support::{FakeBackend, Reply, config},
};

fn channel(program: &Program) -> Channel {
    Endpoint::from_shared(format!("http://{}", program.address)).unwrap().connect_lazy()
}

/// Starts a gateway whose task-service sends `reply`, and creates a client.
async fn start(reply: Reply) -> (FakeBackend, Program, TaskServiceClient<Channel>) {
    let backend = FakeBackend::start(reply).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    let client = TaskServiceClient::new(channel(&program));
    (backend, program, client)
}

fn task() -> Task {
    Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() }
}

fn get_task_request() -> Request<GetTaskRequest> {
    Request::new(GetTaskRequest { id: "x".to_owned() })
}

#[tokio::test]
async fn unary_call_is_forwarded_unchanged() {
    let (backend, _program, mut client) = start(Reply::message(&task())).await;
    assert_eq!(client.get_task(get_task_request()).await.unwrap().into_inner(), task());
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/GetTask");
    assert_eq!(backend.call().message::<GetTaskRequest>().id, "x");
}

#[tokio::test]
async fn stream_is_forwarded_message_by_message() {
    let (sender, reply) = Reply::stream();
    let (_backend, _program, mut client) = start(reply).await;
    let mut messages = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    for token in ["one", "two"] {
        let sent = WatchTasksResponse { sync_token: token.to_owned(), ..WatchTasksResponse::default() };
        sender.send(&sent).await;
        assert_eq!(timeout(TIMEOUT, messages.message()).await.unwrap().unwrap(), Some(sent));
    }
    sender.fail(ApiError::new(Code::Unauthenticated, ErrorReason::TokenRevoked, "the session was revoked")).await;
    assert_refused!(messages.message().await, Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn shutdown_ends_a_stream() {
    let (sender, reply) = Reply::stream();
    let (_backend, program, mut client) = start(reply).await;
    let mut messages = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    sender.send(&WatchTasksResponse::default()).await;
    messages.message().await.unwrap().expect("a message");
    program.shutdown.cancel();
    assert_refused!(messages.message().await, Unavailable, "SHUTTING_DOWN");
    timeout(TIMEOUT, program.running).await.expect("the gateway stops").unwrap().unwrap();
}

#[tokio::test]
async fn disconnect_cancels_the_call() {
    let (sender, reply) = Reply::stream();
    let (_backend, _program, mut client) = start(reply).await;
    drop(client.watch_tasks(WatchTasksRequest::default()).await.unwrap());
    sender.cancelled().await;
}

#[tokio::test]
async fn status_is_forwarded_with_details_and_metadata() {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, "title: ist leer – ü")
        .field("task.title", "is empty");
    let mut status = Status::from(error);
    status.metadata_mut().insert("x-more", "value".parse().unwrap());
    let malformed = Status::with_details(Code::DataLoss, "strange", vec![1, 2, 3].into());
    for status in [status, malformed] {
        let (_backend, _program, mut client) = start(Reply::Status(status.clone())).await;
        let received = client.get_task(get_task_request()).await.unwrap_err();
        assert_eq!(
            (received.code(), received.message(), received.details(), received.metadata().get("x-more")),
            (status.code(), status.message(), status.details(), status.metadata().get("x-more"))
        );
    }
}

#[tokio::test]
async fn metadata_is_forwarded_and_a_request_id_added() {
    let (backend, _program, mut client) = start(Reply::message(&task())).await;
    let mut request = get_task_request();
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
async fn request_id_of_the_client_is_forwarded() {
    let (backend, _program, mut client) = start(Reply::message(&task())).await;
    let mut request = get_task_request();
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    client.get_task(request).await.unwrap();
    assert_eq!(backend.call().values("x-request-id"), ["mine"]);
}

/// Adds metadata that only the gateway may set, and a cookie, which the gateway does not forward.
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
async fn spoofed_client_info_is_dropped() {
    let (auth, task) = (FakeBackend::start(Reply::Echo).await, FakeBackend::start(Reply::Echo).await);
    let mut config = config(&["--auth-url", &auth.url(), "--task-url", &task.url()]);
    config.service_token.service_token = Some(Key::new([7; 32]));
    let program = Program::start(config).await;
    AuthServiceClient::new(channel(&program)).login(spoof(Request::new(LoginRequest::default()))).await.unwrap();
    TaskServiceClient::new(channel(&program)).get_task(spoof(get_task_request())).await.unwrap();
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
async fn unknown_service_is_unimplemented() {
    let (backend, program, _client) = start(Reply::Echo).await;
    for path in ["/no.such.Service/Get", "/taskey.taskier.v1.S/Get", "/grpc.no.such.Service/Get", "/x", "/"] {
        let result = call_raw(&channel(&program), path, Request::new(Vec::new())).await;
        assert_refused!(result, Unimplemented, "METHOD_UNKNOWN");
    }
    assert_refused!(
        call_raw(&channel(&program), "/grpc.health.v1.Health/No", Request::new(Vec::new())).await,
        Unimplemented,
        "METHOD_UNKNOWN",
    );
    assert!(!backend.was_called());
}

#[tokio::test]
async fn unknown_method_is_rejected_by_its_service() {
    let error = ApiError::new(Code::Unimplemented, ErrorReason::MethodUnknown, "no such method");
    let (backend, program, _client) = start(Reply::Status(error.into())).await;
    let result = call_raw(&channel(&program), "/taskey.task.v1.TaskService/No", Request::new(Vec::new())).await;
    assert_refused!(result, Unimplemented, "METHOD_UNKNOWN");
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/No");
}

#[tokio::test]
async fn unavailable_service_returns_a_retry_delay() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let mut client = TaskServiceClient::new(channel(&program));
    let mut request = get_task_request();
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let status = client.get_task(request).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned(), Vec::new()));
    let details = status.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(details.request_info().unwrap().request_id, "mine");
    let stream = client.watch_tasks(WatchTasksRequest::default()).await;
    assert_refused!(stream, Unavailable, "BACKEND_UNAVAILABLE");
}

#[tokio::test]
async fn deadline_is_forwarded() {
    let (backend, _program, mut client) = start(Reply::message(&task())).await;
    let mut request = get_task_request();
    request.set_timeout(Duration::from_secs(7));
    client.get_task(request).await.unwrap();
    assert_eq!(backend.call().values("grpc-timeout"), ["7000000u"]);
}

#[tokio::test]
async fn health_reports_the_services() {
    let ((auth_health, auth), (_task_health, task)) =
        (reporting_service(ServingStatus::Serving).await, reporting_service(ServingStatus::Serving).await);
    let program = Program::start_with(&auth, &task).await;
    let mut client = HealthClient::new(channel(&program));
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.map(|response| response.into_inner().status())
    };
    let name = "taskey.auth.v1.AuthService";
    auth_health.set_service_status(name, ServingStatus::NotServing).await;
    assert_eq!(check("").await.unwrap() as i32, 1);
    assert_eq!(check(name).await.unwrap() as i32, 2);
    assert_refused!(check("no.such.Service").await, NotFound, "METHOD_UNKNOWN");
    assert_refused!(check("taskey.auth.v1.No").await, NotFound, "METHOD_UNKNOWN");
    let program = Program::start_with(&auth, UNREACHABLE).await;
    let response = HealthClient::new(channel(&program)).check(HealthCheckRequest::default()).await;
    assert_eq!(response.unwrap().into_inner().status, 2);
}

#[tokio::test]
async fn health_watch_reports_changes_and_ends_on_shutdown() {
    let ((health, auth), (_task_health, task)) =
        (reporting_service(ServingStatus::Serving).await, reporting_service(ServingStatus::Serving).await);
    let program = Program::start_with(&auth, &task).await;
    let mut client = HealthClient::new(channel(&program));
    let mut updates = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(updates.message().await.unwrap().unwrap().status, 1);
    health.set_service_status("", ServingStatus::NotServing).await;
    assert_eq!(timeout(TIMEOUT, updates.message()).await.unwrap().unwrap().unwrap().status, 2);
    program.shutdown.cancel();
    assert_refused!(updates.message().await, Unavailable, "SHUTTING_DOWN");
}

#[tokio::test]
async fn reflection_describes_all_services() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let request = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        request(MessageRequest::ListServices(String::new())),
        request(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
    ];
    let mut client = ServerReflectionClient::new(channel(&program));
    let responses = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let responses: Vec<_> = responses.map(|response| response.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(list), MessageResponse::FileDescriptorResponse(file)] = &responses[..]
    else {
        panic!("{responses:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| &service.name[..]).collect();
    for name in ["taskey.auth.v1.AuthService", "taskey.task.v1.TaskService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!file.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn grpc_requires_http2() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let request = program.request(Method::POST, "/taskey.task.v1.TaskService/GetTask", "");
    assert_eq!(program.send(with_header(request, "content-type", "application/grpc")).await.code, 400);
}
