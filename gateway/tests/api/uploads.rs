//! Requests whose body is a file.

use http::Method;
use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{FileFormat, ImportTasksRequest, ImportTasksResponse},
};
use tonic::Code;

use crate::{
    program::{Program, UNREACHABLE, with_header},
    raw::Target,
    support::{FakeBackend, Reply},
};

const PATH: &str = "/v1/tasks:import?format=FILE_FORMAT_CSV";

async fn start(reply: Reply) -> (Program, FakeBackend) {
    let backend = FakeBackend::start(reply).await;
    (Program::start_with(UNREACHABLE, &backend.url()).await, backend)
}

fn imported() -> Reply {
    Reply::message(&ImportTasksResponse { created_task_count: 2, ..ImportTasksResponse::default() })
}

#[tokio::test]
async fn body_is_sent_in_parts_after_the_fields_of_the_query() {
    let (program, backend) = start(imported()).await;
    // Much larger than a JSON body may be.
    let file = "0123456789".repeat(100_000);
    let request = program.request(Method::POST, &format!("{PATH}&validateOnly=true"), &file);
    let response = program.send(with_header(request, "content-type", "text/csv")).await;
    assert_eq!(response.ok()["createdTaskCount"], 2);
    let messages: Vec<ImportTasksRequest> = backend.call().messages();
    let first = &messages[0];
    assert_eq!((first.format(), first.validate_only, first.content.len()), (FileFormat::Csv, true, 0));
    assert!(messages[1..].iter().all(|message| message.content.len() <= 128 * 1024 && message.format == 0));
    assert!(messages.iter().flat_map(|message| &message.content).eq(file.as_bytes()));
}

#[tokio::test]
async fn empty_body_is_an_empty_file() {
    let (program, backend) = start(imported()).await;
    program.send(program.request(Method::POST, PATH, "")).await.ok();
    assert_eq!(backend.call().messages::<ImportTasksRequest>().len(), 1);
}

#[tokio::test]
async fn error_of_the_service_is_returned() {
    let error =
        ApiError::new(Code::InvalidArgument, ErrorReason::ImportInvalid, "no").field("rows[3].title", "is long");
    let (program, _backend) = start(Reply::Status(error.into())).await;
    let response = program.send(program.request(Method::POST, PATH, "title\n")).await;
    response.assert_refused(400, "INVALID_ARGUMENT", "IMPORT_INVALID", &["rows[3].title"]);
}

#[tokio::test]
async fn compressed_and_invalid_requests_are_refused_without_a_call() {
    let (program, backend) = start(imported()).await;
    let compressed = with_header(program.request(Method::POST, PATH, "x"), "content-encoding", "gzip");
    program.send(compressed).await.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    for (query, field) in [("format=PDF", "format"), ("content=eA", "content"), ("colour=red", "colour")] {
        let request = program.request(Method::POST, &format!("/v1/tasks:import?{query}"), "x");
        program.send(request).await.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &[field]);
    }
    assert!(!backend.was_called());
}

#[tokio::test]
async fn body_that_stalls_is_408() {
    let target = Target::start().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ntitle\n");
    target.send(head).await.assert_refused(408, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
}
