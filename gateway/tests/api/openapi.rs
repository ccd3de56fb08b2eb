//! `/openapi.json`: that it is there and up to date, and what it says of who may call and what is refused.

use std::{collections::BTreeSet, env, fs, process::Command};

use gateway::openapi::{Document, example};
use http::Method;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use service_kit::testing::leave_out;

use crate::{
    program::{NOBODY, Program, with_header},
    support::{FakeBackend, Reply, pool},
};

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

/// With this variable the copy is written anew.
const RENEW: &str = "TASKEY_TEST_RENEW_OPENAPI";

pub(crate) fn contract() -> DescriptorPool {
    DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).unwrap()
}

pub(crate) fn of(pool: &DescriptorPool) -> Value {
    serde_json::to_value(Document::of(pool).unwrap()).unwrap()
}

pub(crate) fn operation(path: &str, verb: &str) -> Value {
    let document = of(&contract());
    let operation = document["paths"][path][verb].clone();
    assert!(operation.is_object(), "{verb} {path}");
    operation
}

/// The operations of a document, each with its path.
fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| item.as_object().unwrap().values().map(move |one| (path.as_str(), one))).collect()
}

#[test]
fn the_committed_copy_is_up_to_date() {
    let text = serde_json::to_string_pretty(&Document::of(&contract()).unwrap()).unwrap() + "\n";
    if env::var_os(RENEW).is_some() {
        fs::write(COPY, &text).unwrap();
    }
    let copy = fs::read_to_string(COPY).unwrap_or_default();
    assert!(
        copy == text,
        "gateway/openapi.json is not what the contract says: run `make openapi` and commit the change"
    );
}

#[test]
fn a_validator_accepts_it() {
    match Command::new("openapi-spec-validator").arg(COPY).output() {
        Err(_) => leave_out("a test with openapi-spec-validator", "there is none; `make tools` installs it"),
        Ok(output) => {
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(output.status.success() && text.contains("OK"), "{text}");
        }
    }
}

#[tokio::test]
async fn it_is_served_with_an_etag() {
    let program = Program::before(NOBODY, NOBODY).await;
    let answer = program.get("/openapi.json").await;
    assert_eq!(answer.ok(), of(&contract()));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let head = program.send(program.request(Method::HEAD, "/openapi.json", "")).await;
    assert_eq!((head.code, head.text.as_str(), head.header("etag")), (200, "", answer.header("etag")));
    let request = with_header(program.request(Method::GET, "/openapi.json", ""), "if-none-match", head.header("etag"));
    let known = program.send(request).await;
    assert_eq!((known.code, known.text.as_str(), known.header("content-type")), (304, "", ""));
}

#[tokio::test]
async fn it_is_only_to_be_read() {
    let program = Program::before(NOBODY, NOBODY).await;
    let answer = program.send(program.request(Method::POST, "/openapi.json", "")).await;
    answer.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
    assert_eq!(answer.header("allow"), "GET, HEAD");
}

#[test]
fn every_rpc_with_a_path_is_in_it() {
    let document = of(&contract());
    let ids: BTreeSet<_> = operations(&document).iter().filter_map(|(_, one)| one["operationId"].as_str()).collect();
    let http = contract().get_extension_by_name("google.api.http").unwrap();
    for method in contract().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let id = format!("{}_{}", method.parent_service().name(), method.name());
        assert_eq!(ids.contains(id.as_str()), method.options().has_extension(&http), "{id}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| check(document, value)),
            Value::Object(values) => {
                if let Some(Value::String(reference)) = values.get("$ref") {
                    let found = document.pointer(reference.strip_prefix('#').unwrap());
                    assert!(found.is_some(), "{reference}");
                }
                values.values().for_each(|value| check(document, value));
            }
            _ => {}
        }
    }
    for document in [of(&contract()), of(&pool())] {
        check(&document, &document);
    }
}

#[test]
fn every_operation_and_every_field_of_the_contract_is_described() {
    let document = of(&contract());
    for (path, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    let title = &document["components"]["schemas"]["Task"]["properties"]["title"];
    assert!(title["description"].as_str().unwrap().starts_with("The title"));
}

#[test]
fn only_what_is_open_needs_no_token() {
    let document = of(&contract());
    let without = |security: Value| -> BTreeSet<_> {
        let operations = operations(&document).into_iter();
        operations.filter(|(_, one)| one["security"] == security).map(|(path, _)| path.to_owned()).collect()
    };
    let open = [
        "/.well-known/jwks.json",
        "/healthz",
        "/openapi.json",
        "/readyz",
        "/v1/auth/login",
        "/v1/auth/refresh",
        "/v1/auth/signup",
    ];
    assert_eq!(without(json!([])), open.map(str::to_owned).into());
    assert_eq!(without(json!([{}, {"bearer": []}, {"cookie": []}])), ["/v1/auth/logout".to_owned()].into());
}

fn reasons(operation: &Value, code: &str) -> BTreeSet<String> {
    let reasons = operation["responses"][code]["x-error-reasons"].as_array().cloned().unwrap_or_default();
    reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_reasons(operation: &Value, code: &str, expected: &[&str]) {
    assert_eq!(reasons(operation, code), expected.iter().map(|&reason| reason.to_owned()).collect(), "{code}");
}

#[test]
fn errors_are_those_that_the_options_list() {
    let create = operation("/v1/tasks", "post");
    assert_reasons(&create, "400", &["VALIDATION_FAILED", "REQUEST_ID_REUSED", "MALFORMED_REQUEST"]);
    assert_reasons(&create, "401", &["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"]);
    assert_reasons(&create, "404", &["LIST_NOT_FOUND"]);
    assert_reasons(&create, "413", &["MESSAGE_TOO_LARGE"]);
    assert_reasons(&create, "429", &["QUOTA_EXCEEDED"]);
    assert_reasons(&create, "503", &["VERIFIER_NOT_READY", "STORE_UNAVAILABLE", "BACKEND_UNAVAILABLE"]);
    assert_eq!(create["responses"]["503"]["headers"]["Retry-After"]["$ref"], "#/components/headers/Retry-After");
    let login = operation("/v1/auth/login", "post");
    assert_reasons(&login, "401", &["CREDENTIALS_INVALID"]);
}

#[test]
fn errors_that_comments_refer_to_are_listed() {
    assert_reasons(
        &operation("/v1/lists", "get"),
        "401",
        &["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"],
    );
    assert!(reasons(&operation("/v1/tasks:watch", "get"), "400").contains("SYNC_TOKEN_EXPIRED"));
    assert_reasons(&operation("/v1/tasks:batchWrite", "post"), "404", &["LIST_NOT_FOUND", "TASK_NOT_FOUND"]);
}

#[test]
fn headers_are_where_they_mean_something() {
    let headers = |path, verb| -> BTreeSet<String> {
        let operation = operation(path, verb);
        let parameters = operation["parameters"].as_array().unwrap().iter().filter_map(|one| one["$ref"].as_str());
        parameters.map(|reference| reference.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let all = ["X-Request-Id", "Request-Timeout"];
    for (path, verb, more) in [
        ("/v1/tasks", "get", &[][..]),
        ("/v1/tasks", "post", &["Idempotency-Key", "Prefer"]),
        ("/v1/tasks/{id}", "get", &["If-None-Match"]),
        ("/v1/tasks/{id}", "patch", &["If-Match", "Idempotency-Key", "Prefer"]),
        ("/v1/tasks/{id}:complete", "post", &["If-Match", "Idempotency-Key", "Prefer"]),
        ("/v1/tasks:batchWrite", "post", &["Idempotency-Key"]),
        ("/v1/tasks:watch", "get", &["Last-Event-ID"]),
    ] {
        let expected = all.iter().chain(more).map(|&name| name.to_owned()).collect();
        assert_eq!(headers(path, verb), expected, "{verb} {path}");
    }
    assert_reasons(&operation("/v1/tasks/{id}", "patch"), "412", &["ETAG_MISMATCH"]);
    assert!(operation("/v1/tasks/{id}", "get")["responses"]["304"].is_object());
    assert!(operation("/v1/tasks", "post")["responses"]["204"]["headers"]["ETag"].is_object());
}

#[test]
fn a_stream_comes_in_lines_or_as_events() {
    let watch = operation("/v1/tasks:watch", "get");
    let content = watch["responses"]["200"]["content"].as_object().unwrap();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["application/x-ndjson", "text/event-stream"]);
}

#[test]
fn introspection_takes_a_form() {
    let content = operation("/v1/auth/introspect", "post")["requestBody"]["content"].clone();
    let types: Vec<_> = content.as_object().unwrap().keys().collect();
    assert_eq!(types, ["application/json", "application/x-www-form-urlencoded"]);
}

#[tokio::test]
async fn the_examples_are_good_requests() {
    let backend = FakeBackend::start(Reply::Message(Vec::new())).await;
    let program = Program::before(&backend.url(), &backend.url()).await;
    for (path, rpc) in [
        ("/v1/auth/signup", "taskey.auth.v1.AuthService.SignUp"),
        ("/v1/auth/login", "taskey.auth.v1.AuthService.Login"),
        ("/v1/tasks", "taskey.task.v1.TaskService.CreateTask"),
    ] {
        let example = example::request(rpc).unwrap();
        assert_eq!(operation(path, "post")["requestBody"]["content"]["application/json"]["example"], example);
        program.send(program.request(Method::POST, path, &example.to_string())).await.ok();
    }
}
