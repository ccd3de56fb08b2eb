//! `/openapi.json`: it is served and up to date, and documents authentication, errors and headers.

use std::{collections::BTreeSet, env, fs, process::Command};

use gateway::openapi::{Document, example};
use http::Method;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use service_kit::testing::report_skipped;

use crate::{
    program::{Program, UNREACHABLE, with_header},
    support::{FakeBackend, Reply, pool},
};

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

/// If this environment variable is set, the committed copy is regenerated.
pub(crate) const RENEW: &str = "TASKEY_TEST_RENEW_OPENAPI";

/// Returns the descriptors of the contract.
pub(crate) fn contract_pool() -> DescriptorPool {
    DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).unwrap()
}

pub(crate) fn openapi_document(pool: &DescriptorPool) -> Value {
    serde_json::to_value(Document::from_pool(pool).unwrap()).unwrap()
}

pub(crate) fn operation(path: &str, verb: &str) -> Value {
    let document = openapi_document(&contract_pool());
    let operation = document["paths"][path][verb].clone();
    assert!(operation.is_object(), "{verb} {path}");
    operation
}

/// Returns the operations of a document, each with its path.
fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| item.as_object().unwrap().values().map(move |operation| (path.as_str(), operation)))
        .collect()
}

#[test]
fn the_committed_copy_is_up_to_date() {
    let text = serde_json::to_string_pretty(&Document::from_pool(&contract_pool()).unwrap()).unwrap() + "\n";
    if env::var_os(RENEW).is_some() {
        fs::write(COPY, &text).unwrap();
    }
    let copy = fs::read_to_string(COPY).unwrap_or_default();
    assert!(copy == text, "gateway/openapi.json differs from the contract: run `make openapi` and commit the change");
}

#[test]
fn all_reasons_are_listed() {
    let pool = contract_pool();
    let reasons = pool.get_enum_by_name("taskey.errors.v1.ErrorReason").unwrap();
    let names = reasons.values().filter(|reason| reason.number() != 0);
    let names: Vec<_> = names.map(|reason| reason.name().trim_start_matches("ERROR_REASON_").to_owned()).collect();
    assert_eq!(openapi_document(&pool)["components"]["schemas"]["ErrorReason"]["enum"], json!(names));
}

#[test]
fn document_is_valid() {
    match Command::new("openapi-spec-validator").arg(COPY).output() {
        Err(_) => report_skipped("a test with openapi-spec-validator", "there is none; `make tools` installs it"),
        Ok(output) => {
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(output.status.success() && text.contains("OK"), "{text}");
        }
    }
}

#[tokio::test]
async fn document_is_served_with_an_etag() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let response = program.get("/openapi.json").await;
    assert_eq!(response.ok(), openapi_document(&contract_pool()));
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "public, max-age=300");
    let head = program.send(program.request(Method::HEAD, "/openapi.json", "")).await;
    assert_eq!((head.code, head.text.as_str(), head.header("etag")), (200, "", response.header("etag")));
    let request = with_header(program.request(Method::GET, "/openapi.json", ""), "if-none-match", head.header("etag"));
    let unchanged = program.send(request).await;
    assert_eq!((unchanged.code, unchanged.text.as_str(), unchanged.header("content-type")), (304, "", ""));
}

#[tokio::test]
async fn document_is_read_only() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let response = program.send(program.request(Method::POST, "/openapi.json", "")).await;
    response.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
    assert_eq!(response.header("allow"), "GET, HEAD");
}

#[test]
fn every_rpc_with_a_binding_is_documented() {
    let document = openapi_document(&contract_pool());
    let ids: BTreeSet<_> =
        operations(&document).iter().filter_map(|(_, operation)| operation["operationId"].as_str()).collect();
    let http = contract_pool().get_extension_by_name("google.api.http").unwrap();
    for method in contract_pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let id = format!("{}_{}", method.parent_service().name(), method.name());
        assert_eq!(ids.contains(id.as_str()), method.options().has_extension(&http), "{id}");
    }
}

#[test]
fn every_reference_resolves() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| check(document, value)),
            Value::Object(values) => {
                if let Some(Value::String(reference)) = values.get("$ref") {
                    let target = document.pointer(reference.strip_prefix('#').unwrap());
                    assert!(target.is_some(), "{reference}");
                }
                values.values().for_each(|value| check(document, value));
            }
            _ => {}
        }
    }
    for document in [openapi_document(&contract_pool()), openapi_document(&pool())] {
        check(&document, &document);
    }
}

#[test]
fn every_operation_and_schema_is_described() {
    let document = openapi_document(&contract_pool());
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
fn only_public_operations_need_no_token() {
    let document = openapi_document(&contract_pool());
    let paths_with_security = |security: Value| -> BTreeSet<_> {
        let operations = operations(&document).into_iter();
        operations.filter(|(_, operation)| operation["security"] == security).map(|(path, _)| path.to_owned()).collect()
    };
    let public = [
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/healthz",
        "/openapi.json",
        "/readyz",
        "/service_config.json",
        "/v1/auth/email:confirmChange",
        "/v1/auth/email:undoChange",
        "/v1/auth/email:verify",
        "/v1/auth/login",
        "/v1/auth/login:complete",
        "/v1/auth/passkey:begin",
        "/v1/auth/passkey:finish",
        "/v1/auth/password:requestReset",
        "/v1/auth/password:reset",
        "/v1/auth/refresh",
        "/v1/auth/signup",
        "/v1/oauth2/device_authorization",
        "/v1/oauth2/revoke",
        "/v1/oauth2/token",
    ];
    assert_eq!(paths_with_security(json!([])), public.map(str::to_owned).into());
    let optional = json!([{}, {"bearer": []}, {"cookie": []}]);
    assert_eq!(paths_with_security(optional), ["/v1/auth/logout".to_owned()].into());
}

#[test]
fn operations_document_the_scope_of_their_rpc() {
    for (path, verb, scope) in [
        ("/v1/tasks", "get", "tasks.read"),
        ("/v1/tasks/{id}", "delete", "tasks.write"),
        ("/v1/me", "patch", "account.write"),
        ("/v1/admin/users", "get", "admin.read"),
        ("/v1/auth/introspect", "post", "tokens.verify"),
    ] {
        let operation = operation(path, verb);
        assert_eq!(operation["security"], json!([{"bearer": [scope]}, {"cookie": [scope]}]), "{verb} {path}");
        let description = operation["description"].as_str().unwrap();
        assert!(description.ends_with(&format!("Requires the scope `{scope}`.")), "{description}");
    }
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
fn documented_errors_match_the_options() {
    let create = operation("/v1/tasks", "post");
    assert_reasons(&create, "400", &["VALIDATION_FAILED", "REQUEST_ID_REUSED", "MALFORMED_REQUEST"]);
    assert_reasons(&create, "401", &["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"]);
    assert_reasons(&create, "404", &["LIST_NOT_FOUND"]);
    assert_reasons(&create, "413", &["MESSAGE_TOO_LARGE"]);
    assert_reasons(&create, "408", &["DEADLINE_EXCEEDED"]);
    assert_reasons(&create, "429", &["QUOTA_EXCEEDED", "RATE_LIMITED", "OVERLOADED"]);
    assert_reasons(&create, "431", &["MESSAGE_TOO_LARGE"]);
    assert_reasons(&create, "503", &["VERIFIER_NOT_READY", "STORE_UNAVAILABLE", "BACKEND_UNAVAILABLE"]);
    assert_eq!(create["responses"]["503"]["headers"]["Retry-After"]["$ref"], "#/components/headers/Retry-After");
    let login = operation("/v1/auth/login", "post");
    assert_reasons(&login, "401", &["CREDENTIALS_INVALID", "CODE_INVALID"]);
}

#[test]
fn every_rpc_documents_the_errors_of_the_gateway_and_the_rate_limit() {
    let document = openapi_document(&contract_pool());
    let of_rpcs = operations(&document).into_iter().filter(|(_, operation)| operation["tags"] != json!(["Gateway"]));
    for (path, operation) in of_rpcs {
        // The endpoints of OAuth 2.0 respond with JSON whatever the client accepts, and with 400 to bodies that are no form.
        let is_oauth = path.starts_with("/v1/oauth2/");
        for code in ["400", "406", "408", "413", "414", "429", "431", "500", "503", "504"] {
            // Files have the media type of their format, whatever the client accepts.
            let is_exempt = code == "406" && (is_oauth || path == "/v1/tasks:export");
            assert!(is_exempt || !reasons(operation, code).is_empty(), "{path} {code}");
        }
        assert!(reasons(operation, "429").is_superset(&["RATE_LIMITED", "OVERLOADED"].map(str::to_owned).into()));
        for code in ["429", "503"] {
            assert!(operation["responses"][code]["headers"]["Retry-After"].is_object(), "{path} {code}");
        }
        let has_body = operation["requestBody"].is_object();
        assert_eq!(operation["responses"]["415"].is_object(), has_body && !is_oauth, "{path}");
    }
}

#[test]
fn errors_that_comments_refer_to_are_documented() {
    assert_reasons(
        &operation("/v1/lists", "get"),
        "401",
        &["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"],
    );
    assert!(reasons(&operation("/v1/tasks:watch", "get"), "400").contains("SYNC_TOKEN_EXPIRED"));
    assert_reasons(&operation("/v1/tasks:batchWrite", "post"), "404", &["LIST_NOT_FOUND", "TASK_NOT_FOUND"]);
}

#[test]
fn headers_are_documented_where_they_are_used() {
    let headers = |path, verb| -> BTreeSet<String> {
        let operation = operation(path, verb);
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let references = parameters.filter_map(|parameter| parameter["$ref"].as_str());
        references.map(|reference| reference.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let common = ["X-Request-Id", "Request-Timeout"];
    for (path, verb, additional) in [
        ("/v1/tasks", "get", &[][..]),
        ("/v1/tasks", "post", &["Idempotency-Key", "Prefer"]),
        ("/v1/tasks/{id}", "get", &["If-None-Match"]),
        ("/v1/tasks/{id}", "patch", &["If-Match", "Idempotency-Key", "Prefer"]),
        ("/v1/tasks/{id}:complete", "post", &["If-Match", "Idempotency-Key", "Prefer"]),
        ("/v1/tasks:batchWrite", "post", &["Idempotency-Key"]),
        ("/v1/tasks:watch", "get", &["Last-Event-ID"]),
    ] {
        let expected = common.iter().chain(additional).map(|&name| name.to_owned()).collect();
        assert_eq!(headers(path, verb), expected, "{verb} {path}");
    }
    assert_reasons(&operation("/v1/tasks/{id}", "patch"), "412", &["ETAG_MISMATCH"]);
    assert!(operation("/v1/tasks/{id}", "get")["responses"]["304"].is_object());
    assert!(operation("/v1/tasks", "post")["responses"]["204"]["headers"]["ETag"].is_object());
}

#[test]
fn stream_is_documented_as_lines_and_events() {
    let watch = operation("/v1/tasks:watch", "get");
    let content = watch["responses"]["200"]["content"].as_object().unwrap();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["application/x-ndjson", "text/event-stream"]);
}

#[test]
fn introspection_accepts_a_form() {
    let content = operation("/v1/auth/introspect", "post")["requestBody"]["content"].clone();
    let types: Vec<_> = content.as_object().unwrap().keys().collect();
    assert_eq!(types, ["application/json", "application/x-www-form-urlencoded"]);
}

#[tokio::test]
async fn examples_are_valid_requests() {
    let backend = FakeBackend::start(Reply::Message(Vec::new())).await;
    let program = Program::start_with(&backend.url(), &backend.url()).await;
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
