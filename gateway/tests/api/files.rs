//! Responses that are files.

use http::Method;
use http_body_util::BodyExt;
use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{ExportTasksRequest, ExportTasksResponse, FileFormat},
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    fake_backend::{EventSender, TIMEOUT},
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply},
};

const PATH: &str = "/v1/tasks:export?format=FILE_FORMAT_CSV";

/// A gateway whose task-service returns one file.
async fn start() -> (Program, FakeBackend, EventSender) {
    let (sender, reply) = Reply::stream();
    let backend = FakeBackend::start(reply).await;
    (Program::start_with(UNREACHABLE, &backend.url()).await, backend, sender)
}

fn first(file_name: &str) -> ExportTasksResponse {
    let (content, content_type) = (b"id,title\r\n".to_vec(), "text/csv; charset=utf-8".to_owned());
    ExportTasksResponse { content, content_type, file_name: file_name.to_owned() }
}

fn part(text: &str) -> ExportTasksResponse {
    ExportTasksResponse { content: text.as_bytes().to_vec(), ..ExportTasksResponse::default() }
}

#[tokio::test]
async fn response_consists_of_the_parts_of_the_file() {
    for accept in ["text/csv", "application/json", "image/png"] {
        let (program, backend, sender) = start().await;
        let request = with_header(program.request(Method::GET, PATH, ""), "accept", accept);
        let (response, ()) = tokio::join!(program.send(request), async {
            sender.send(&first("tasks.csv")).await;
            sender.send(&part("1,\"Buy")).await;
            sender.send(&part(" milk\"\r\n")).await;
            drop(sender);
        });
        assert_eq!((response.code, &response.text[..]), (200, "id,title\r\n1,\"Buy milk\"\r\n"));
        assert_eq!(response.header("content-type"), "text/csv; charset=utf-8");
        assert_eq!(response.header("content-disposition"), "attachment; filename=\"tasks.csv\"");
        assert_eq!(
            (response.header("cache-control"), response.header("x-content-type-options")),
            ("no-store", "nosniff")
        );
        assert_eq!(backend.call().message::<ExportTasksRequest>().format(), FileFormat::Csv);
    }
}

#[tokio::test]
async fn error_before_the_first_part_is_a_json_error() {
    let error = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, "too many");
    let backend = FakeBackend::start(Reply::Status(error.into())).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    let response = program.send(program.request(Method::GET, PATH, "")).await;
    response.assert_refused(429, "RESOURCE_EXHAUSTED", "OVERLOADED", &[]);
    assert_eq!(response.header("content-type"), "application/json");
}

#[tokio::test]
async fn unknown_format_is_refused_without_a_call() {
    let (program, backend, _sender) = start().await;
    let request = program.request(Method::GET, "/v1/tasks:export?format=PDF", "");
    program.send(request).await.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &["format"]);
    assert!(backend.calls().is_empty());
}

#[tokio::test]
async fn file_that_ends_with_an_error_is_not_complete() {
    let (program, _backend, sender) = start().await;
    let request = program.request(Method::GET, PATH, "");
    let beginning = first("tasks.csv");
    let (response, ()) = tokio::join!(program.open(request), sender.send(&beginning));
    let mut body = response.into_body();
    let frame = timeout(TIMEOUT, body.frame()).await.expect("the file begins").expect("a frame").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "id,title\r\n");
    sender.fail(ApiError::new(Code::Unavailable, ErrorReason::StoreUnavailable, "no database")).await;
    let end = timeout(TIMEOUT, body.frame()).await.expect("the response ends");
    assert!(end.expect("no end of the body").is_err());
}

#[tokio::test]
async fn call_is_cancelled_when_the_client_disconnects() {
    let (program, _backend, sender) = start().await;
    let request = program.request(Method::GET, PATH, "");
    let beginning = first("tasks.csv");
    let (response, ()) = tokio::join!(program.open(request), sender.send(&beginning));
    drop((response, program));
    sender.cancelled().await;
}
