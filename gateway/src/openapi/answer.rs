//! What is answered: the response of an RPC, and its errors by their HTTP codes.

use std::collections::BTreeMap;

use prost_reflect::DescriptorPool;
use serde_json::{Map, Value, json};
use service_kit::status::reason_name;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{
    binding::{Access, Binding},
    comment,
    errors::{self, DocumentedError, code_name},
    example,
    schema::{Purpose, Schemas, reference},
    shared,
    value::annotated,
};
use crate::{routing::binding::BodyRule, semantics::etag};

const NDJSON: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// All answers of an operation, by their codes.
pub fn all(binding: &Binding, errors: Vec<DocumentedError>, access: Access, schemas: &mut Schemas) -> Value {
    let mut answers = Map::new();
    answers.insert("200".to_owned(), ok(binding, schemas));
    let has_tag = etag::tag_field(&binding.method.output()).is_some();
    if has_tag && binding.verb == "get" {
        let headers = json!({"ETag": shared::header("ETag"), shared::REQUEST_ID: shared::header(shared::REQUEST_ID)});
        let description = "The resource has not changed.";
        answers.insert("304".to_owned(), json!({"description": description, "headers": headers}));
    }
    if binding.may_be_minimal() {
        answers.insert("204".to_owned(), without_body(&answers["200"]));
    }
    for (code, errors) in by_code(binding, errors, access) {
        answers.insert(code.to_string(), refused(code, &errors));
    }
    answers.into()
}

fn ok(binding: &Binding, schemas: &mut Schemas) -> Value {
    let output = binding.method.output();
    let schema = match &binding.response_body {
        Some(field) => schemas.field(field, Purpose::Answer),
        None => schemas.message(&output, Purpose::Answer),
    };
    let mut headers = json!({shared::REQUEST_ID: shared::header(shared::REQUEST_ID)});
    if binding.response_body.is_none() && etag::tag_field(&output).is_some() {
        headers["ETag"] = shared::header("ETag");
    }
    if binding.method.input().get_field_by_name("request_id").is_some() {
        headers[shared::IDEMPOTENT_REPLAYED] = shared::header(shared::IDEMPOTENT_REPLAYED);
    }
    let content = if binding.method.is_server_streaming() {
        let line = annotated(schema, "Each line is such a message.");
        let events = "With `Accept: text/event-stream`: events whose `data` is such a message as JSON.";
        json!({NDJSON: {"schema": line}, EVENTS: {"schema": {"type": "string", "description": events}}})
    } else {
        let mut json = json!({"schema": schema});
        if let Some(example) = example::answer(binding.method.full_name()) {
            json["example"] = example;
        }
        json!({"application/json": json})
    };
    let text = comment::of(&output.parent_file(), output.path());
    let description = if text.is_empty() { "OK.".to_owned() } else { comment::summary(&text) };
    json!({"description": description, "headers": headers, "content": content})
}

/// What is answered in the place of this to who wants no body.
fn without_body(answer: &Value) -> Value {
    let mut headers = answer["headers"].clone();
    headers[shared::PREFERENCE_APPLIED] = shared::header(shared::PREFERENCE_APPLIED);
    json!({"description": "OK. The client asked for no body.", "headers": headers})
}

/// The errors of the RPC and of the gateway before it, by their HTTP codes.
fn by_code(binding: &Binding, mut errors: Vec<DocumentedError>, access: Access) -> BTreeMap<u16, Vec<DocumentedError>> {
    for (code, reason, text) in of_gateway(binding, access) {
        errors::add(&mut errors, errors::documented(binding.method.parent_pool(), code, reason, text));
    }
    let mut by_code: BTreeMap<u16, Vec<DocumentedError>> = BTreeMap::new();
    for error in errors {
        if error.reason == ErrorReason::EtagMismatch && binding.takes_if_match() {
            by_code.entry(412).or_default().push(DocumentedError { text: OTHER_VERSION.to_owned(), ..error.clone() });
        }
        by_code.entry(error.http_code()).or_default().push(error);
    }
    let mut of_http = vec![(406, NOT_ACCEPTABLE), (414, TOO_LONG)];
    if !matches!(binding.body, BodyRule::None) {
        of_http.push((415, OTHER_TYPE));
    }
    let (code, reason) = (Code::InvalidArgument, ErrorReason::MalformedRequest);
    for (http, text) in of_http {
        by_code.entry(http).or_default().push(DocumentedError { code, reason, text: text.to_owned() });
    }
    by_code
}

const OTHER_VERSION: &str = "`If-Match` does not match the current version.";
const NOT_ACCEPTABLE: &str = "the response is not available in a type that `Accept` lists.";
const TOO_LONG: &str = "path and query are longer than 8 KiB.";
const OTHER_TYPE: &str = "the type of the body is not supported.";
const AT_FAULT: &str = "a parameter, a header or a field of the body is unknown, or its value is invalid.";
const OTHER_SITE: &str = "the request uses cookies and may come from another site.";

/// What the gateway refuses before it calls the RPC, or because it cannot. An empty text stands for what the contract
/// says of the reason.
fn of_gateway(binding: &Binding, access: Access) -> Vec<(Code, ErrorReason, &'static str)> {
    let mut errors = vec![
        (Code::InvalidArgument, ErrorReason::ValidationFailed, AT_FAULT),
        (Code::InvalidArgument, ErrorReason::MalformedRequest, ""),
        (Code::ResourceExhausted, ErrorReason::MessageTooLarge, ""),
        (Code::Internal, ErrorReason::Internal, ""),
        (Code::Unavailable, ErrorReason::BackendUnavailable, ""),
        (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, ""),
    ];
    if (access != Access::Open && binding.verb != "get") || binding.is_login() {
        errors.push((Code::PermissionDenied, ErrorReason::PermissionDenied, OTHER_SITE));
    }
    errors
}

/// The Response Object of some errors.
pub fn refused(code: u16, errors: &[DocumentedError]) -> Value {
    let lines: Vec<_> = errors
        .iter()
        .map(|error| format!("- `{}` / `{}`: {}", code_name(error.code), error.reason_name(), error.text))
        .collect();
    let mut reasons: Vec<_> = errors.iter().map(DocumentedError::reason_name).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let mut headers = json!({shared::REQUEST_ID: shared::header(shared::REQUEST_ID)});
    let more = match code {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    if let Some(name) = more {
        headers[name] = shared::header(name);
    }
    json!({
        "description": lines.join("\n"),
        "headers": headers,
        "content": {"application/json": {"schema": reference("Error")}},
        "x-error-reasons": reasons,
    })
}

/// The schemas of errors.
#[must_use]
pub fn schemas(pool: &DescriptorPool) -> Vec<(&'static str, Value)> {
    let text = pool.get_enum_by_name("taskey.errors.v1.ErrorReason");
    let text = text.map(|of| comment::of(&of.parent_file(), of.path())).unwrap_or_default();
    let numbers = 1..;
    let reasons = numbers.map_while(|number| ErrorReason::try_from(number).ok()).map(reason_name);
    let reasons = annotated(json!({"type": "string", "enum": reasons.collect::<Vec<_>>()}), &text);
    let mut schemas = vec![("Error", error()), ("ErrorReason", reasons.into())];
    schemas.extend(details());
    schemas
}

fn error() -> Value {
    let statuses: Vec<_> = (1..=16).map(|code| code_name(Code::from_i32(code))).collect();
    json!({
        "description": "An error.",
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP code."},
                "status": {"type": "string", "description": "The name of the gRPC code.", "enum": statuses},
                "message": {"type": "string", "description": "A message for developers."},
                "details": {"type": "array", "items": reference("ErrorDetail")},
            },
        }},
    })
}

/// The details that are sent, each by its name, which generated clients give to its type; whatever else there may come
/// has its type, too.
fn details() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let violations = json!({"type": "array", "items": reference("FieldViolation")});
    let info = json!({"reason": reference("ErrorReason"), "domain": text, "metadata": texts});
    let mut schemas = vec![
        ("ErrorInfo", typed("ErrorInfo", "The reason, for programs.", info)),
        ("BadRequest", typed("BadRequest", "The invalid fields.", json!({"fieldViolations": violations}))),
        ("RetryInfo", typed("RetryInfo", "How long to wait before a retry.", json!({"retryDelay": text}))),
        ("RequestInfo", typed("RequestInfo", "The id of the request in the logs.", json!({"requestId": text}))),
    ];
    let other = "Any other detail.";
    let other = json!({"description": other, "type": "object", "required": ["@type"], "properties": {"@type": text}});
    schemas.push(("OtherDetail", other));
    let all: Vec<_> = schemas.iter().map(|(name, _)| reference(name)).collect();
    let about = "A detail of an error, identified by its `@type`. There is always an `ErrorInfo` and a `RequestInfo`.";
    schemas.push(("ErrorDetail", json!({"description": about, "anyOf": all})));
    let about = "An invalid field and a description of the error.";
    let fields = json!({"field": text, "description": text});
    let violation = json!({"description": about, "type": "object", "properties": fields});
    schemas.push(("FieldViolation", violation));
    schemas
}

fn typed(name: &str, description: &str, mut properties: Value) -> Value {
    properties["@type"] = json!({"const": format!("type.googleapis.com/google.rpc.{name}")});
    json!({"description": description, "type": "object", "required": ["@type"], "properties": properties})
}
