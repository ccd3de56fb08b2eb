//! Responses of operations: that of a successful call, and those of errors by HTTP code.

use std::collections::BTreeMap;

use prost_reflect::DescriptorPool;
use serde_json::{Map, Value, json};
use service_kit::status::reason_name;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{
    binding::{Authentication, Binding},
    comment, components,
    contract::{self, DocumentedError, code_name},
    example,
    schema::{Purpose, Schemas, reference},
    value::with_description,
};
use crate::routing::binding::{self, BodyRule};

const NDJSON: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// The media types of files. Generators of clients do not understand `*/*`.
const FILES: [&str; 3] = ["text/csv", "text/calendar", NDJSON];

/// Returns all responses of an operation, by HTTP code.
pub fn responses(
    binding: &Binding,
    errors: Vec<DocumentedError>,
    authentication: Authentication,
    schemas: &mut Schemas,
) -> Value {
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success_response(binding, schemas));
    let has_etag = binding::etag_field(&binding.method.output()).is_some();
    if has_etag && binding.verb == "get" {
        let headers = json!({
            "ETag": components::header("ETag"),
            components::REQUEST_ID: components::header(components::REQUEST_ID),
        });
        let description = "The resource has not changed.";
        responses.insert("304".to_owned(), json!({"description": description, "headers": headers}));
    }
    if binding.can_omit_response_body() {
        responses.insert("204".to_owned(), without_body(&responses["200"]));
    }
    let errors = group_by_http_code(binding, errors, authentication);
    for (http_code, errors) in if binding::is_oauth(&binding.method) { oauth_errors(errors) } else { errors } {
        let mut response = error_response(http_code, &errors);
        if binding::is_oauth(&binding.method) {
            response["content"]["application/json"]["schema"] = reference("OAuthError");
        }
        responses.insert(http_code.to_string(), response);
    }
    responses.into()
}

/// Moves the errors of an endpoint of OAuth 2.0 to the HTTP codes of RFC 6749, section 5.2.
fn oauth_errors(mut errors: BTreeMap<u16, Vec<DocumentedError>>) -> BTreeMap<u16, Vec<DocumentedError>> {
    let forbidden = errors.remove(&403).unwrap_or_default();
    errors.entry(400).or_default().extend(forbidden);
    // The endpoints respond with JSON whatever the client accepts, and with 400 to bodies that are no form.
    errors.retain(|http_code, _| ![406, 415].contains(http_code));
    errors
}

fn success_response(binding: &Binding, schemas: &mut Schemas) -> Value {
    let output = binding.method.output();
    let schema = match &binding.response_body {
        Some(field) => schemas.field(field, Purpose::Response),
        None => schemas.message(&output, Purpose::Response),
    };
    let mut headers = json!({components::REQUEST_ID: components::header(components::REQUEST_ID)});
    if binding.response_body.is_none() && binding::etag_field(&output).is_some() {
        headers["ETag"] = components::header("ETag");
    }
    if binding.method.input().get_field_by_name("request_id").is_some() {
        headers[components::IDEMPOTENT_REPLAYED] = components::header(components::IDEMPOTENT_REPLAYED);
    }
    let content = if binding.returns_file() {
        let file = json!({"schema": {"type": "string", "description": "The file in this format."}});
        FILES.into_iter().map(|media_type| (media_type.to_owned(), file.clone())).collect::<Map<_, _>>().into()
    } else if binding.method.is_server_streaming() {
        let line = with_description(schema, "Each line is one message.");
        let events = "With `Accept: text/event-stream`: events whose `data` is one message as JSON.";
        json!({NDJSON: {"schema": line}, EVENTS: {"schema": {"type": "string", "description": events}}})
    } else {
        let mut json = json!({"schema": schema});
        if let Some(example) = example::response(binding.method.full_name()) {
            json["example"] = example;
        }
        json!({"application/json": json})
    };
    let comment = comment::leading(&output.parent_file(), output.path());
    let description = if comment.is_empty() { "OK.".to_owned() } else { comment::summary(&comment) };
    json!({"description": description, "headers": headers, "content": content})
}

/// Returns the response to a client that asks for no body.
fn without_body(response: &Value) -> Value {
    let mut headers = response["headers"].clone();
    headers[components::PREFERENCE_APPLIED] = components::header(components::PREFERENCE_APPLIED);
    json!({"description": "OK. The client asked for no body.", "headers": headers})
}

/// Groups the errors of the RPC and of the gateway by HTTP code.
fn group_by_http_code(
    binding: &Binding,
    mut errors: Vec<DocumentedError>,
    authentication: Authentication,
) -> BTreeMap<u16, Vec<DocumentedError>> {
    let pool = binding.method.parent_pool();
    for (code, reason, description) in gateway_errors(binding, authentication) {
        contract::add_error(&mut errors, contract::document_error(pool, code, reason, description));
    }
    let mut groups: BTreeMap<u16, Vec<DocumentedError>> = BTreeMap::new();
    for error in errors {
        if error.reason == ErrorReason::EtagMismatch && binding.accepts_if_match() {
            let mismatch = DocumentedError { description: PRECONDITION_FAILED.to_owned(), ..error.clone() };
            groups.entry(412).or_default().push(mismatch);
        }
        groups.entry(error.http_code()).or_default().push(error);
    }
    for (http_code, code, reason, description) in http_errors(binding) {
        let error = DocumentedError { code, reason, description: description.to_owned() };
        groups.entry(http_code).or_default().push(error);
    }
    groups
}

/// An error whose HTTP code is not that of its status code: both codes, the reason and the description.
type HttpError = (u16, Code, ErrorReason, &'static str);

/// Returns the errors of the gateway whose HTTP code is not that of their status code.
fn http_errors(binding: &Binding) -> Vec<HttpError> {
    let malformed = (Code::InvalidArgument, ErrorReason::MalformedRequest);
    let mut errors = vec![(408, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, REQUEST_TIMEOUT)];
    if !binding.returns_file() {
        errors.push((406, malformed.0, malformed.1, NOT_ACCEPTABLE));
    }
    errors.extend(HEAD_ERRORS);
    if !matches!(binding.body, BodyRule::None) {
        errors.push((415, malformed.0, malformed.1, UNSUPPORTED_MEDIA_TYPE));
    }
    errors
}

const PRECONDITION_FAILED: &str = "`If-Match` does not match the current version.";
const NOT_ACCEPTABLE: &str = "the response is not available in a type that `Accept` lists.";
/// The errors of requests whose head is too large, at any path.
pub const HEAD_ERRORS: [HttpError; 2] = [
    (414, Code::InvalidArgument, ErrorReason::MalformedRequest, URI_TOO_LONG),
    (431, Code::ResourceExhausted, ErrorReason::MessageTooLarge, HEADERS_TOO_LARGE),
];
const REQUEST_TIMEOUT: &str = "the body of the request did not arrive in time. The call had no effect.";
const HEADERS_TOO_LARGE: &str = "the headers are too many or too large.";
const URI_TOO_LONG: &str = "path and query are longer than 8 KiB.";
const UNSUPPORTED_MEDIA_TYPE: &str = "the type of the body is not supported.";
const VALIDATION_FAILED: &str = "a parameter, a header or a field of the body is unknown, or its value is invalid.";
const CROSS_SITE: &str = "the request uses cookies and may come from another site.";

/// Returns the errors of the gateway itself, with their descriptions. An empty description means the comment of the
/// reason in the contract.
fn gateway_errors(binding: &Binding, authentication: Authentication) -> Vec<(Code, ErrorReason, &'static str)> {
    let mut errors = vec![
        (Code::InvalidArgument, ErrorReason::ValidationFailed, VALIDATION_FAILED),
        (Code::InvalidArgument, ErrorReason::MalformedRequest, ""),
        (Code::ResourceExhausted, ErrorReason::MessageTooLarge, ""),
        (Code::ResourceExhausted, ErrorReason::Overloaded, ""),
        (Code::Internal, ErrorReason::Internal, ""),
        (Code::Unavailable, ErrorReason::BackendUnavailable, ""),
        (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, ""),
    ];
    if (authentication != Authentication::None && binding.verb != "get") || binding.returns_tokens() {
        errors.push((Code::PermissionDenied, ErrorReason::PermissionDenied, CROSS_SITE));
    }
    errors
}

/// Returns the Response Object of the errors with one HTTP code.
pub fn error_response(http_code: u16, errors: &[DocumentedError]) -> Value {
    let lines: Vec<_> = errors
        .iter()
        .map(|error| format!("- `{}` / `{}`: {}", code_name(error.code), error.reason_name(), error.description))
        .collect();
    let mut reasons: Vec<_> = errors.iter().map(DocumentedError::reason_name).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let mut headers = json!({components::REQUEST_ID: components::header(components::REQUEST_ID)});
    let additional_header = match http_code {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    if let Some(name) = additional_header {
        headers[name] = components::header(name);
    }
    json!({
        "description": lines.join("\n"),
        "headers": headers,
        "content": {"application/json": {"schema": reference("Error")}},
        "x-error-reasons": reasons,
    })
}

/// Returns the schemas of errors.
#[must_use]
pub fn error_schemas(pool: &DescriptorPool) -> Vec<(&'static str, Value)> {
    let reason_enum = pool.get_enum_by_name("taskey.errors.v1.ErrorReason");
    let comment =
        reason_enum.as_ref().map(|reason| comment::leading(&reason.parent_file(), reason.path())).unwrap_or_default();
    // In the order of their numbers, some of which are not used. Zero is no reason.
    let numbers = reason_enum.iter().flat_map(|reason| reason.values().map(|value| value.number()).collect::<Vec<_>>());
    let reasons = numbers.filter_map(|number| ErrorReason::try_from(number).ok());
    let reasons: Vec<_> = reasons.filter(|reason| *reason != ErrorReason::Unspecified).map(reason_name).collect();
    let reasons = with_description(json!({"type": "string", "enum": reasons}), &comment);
    let mut schemas =
        vec![("Error", error_schema()), ("OAuthError", oauth_error_schema()), ("ErrorReason", reasons.into())];
    schemas.extend(detail_schemas());
    schemas
}

fn error_schema() -> Value {
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

fn oauth_error_schema() -> Value {
    json!({
        "description": "An error of OAuth 2.0 (RFC 6749, section 5.2).",
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "The error, such as `invalid_client`."},
            "error_description": {"type": "string", "description": "A message for developers."},
        },
    })
}

/// Returns the schemas of error details. Each has its own name, because generated clients name its type after it.
/// `OtherDetail` matches any detail that is not listed.
fn detail_schemas() -> Vec<(&'static str, Value)> {
    let string = json!({"type": "string"});
    let string_map = json!({"type": "object", "additionalProperties": string});
    let violations = json!({"type": "array", "items": reference("FieldViolation")});
    let info = json!({"reason": reference("ErrorReason"), "domain": string, "metadata": string_map});
    let bad_request = json!({"fieldViolations": violations});
    let mut schemas = vec![
        ("ErrorInfo", detail_schema("ErrorInfo", "The reason, for programs.", info)),
        ("BadRequest", detail_schema("BadRequest", "The invalid fields.", bad_request)),
        ("RetryInfo", detail_schema("RetryInfo", "How long to wait before a retry.", json!({"retryDelay": string}))),
        (
            "RequestInfo",
            detail_schema("RequestInfo", "The id of the request in the logs.", json!({"requestId": string})),
        ),
    ];
    let description = "Any other detail.";
    let properties = json!({"@type": string});
    let other = json!({"description": description, "type": "object", "required": ["@type"], "properties": properties});
    schemas.push(("OtherDetail", other));
    let references: Vec<_> = schemas.iter().map(|(name, _)| reference(name)).collect();
    let description =
        "A detail of an error, identified by its `@type`. There is always an `ErrorInfo` and a `RequestInfo`.";
    schemas.push(("ErrorDetail", json!({"description": description, "anyOf": references})));
    let description = "An invalid field and a description of the error.";
    let properties = json!({"field": string, "description": string});
    let violation = json!({"description": description, "type": "object", "properties": properties});
    schemas.push(("FieldViolation", violation));
    schemas
}

fn detail_schema(name: &str, description: &str, mut properties: Value) -> Value {
    properties["@type"] = json!({"const": format!("type.googleapis.com/google.rpc.{name}")});
    json!({"description": description, "type": "object", "required": ["@type"], "properties": properties})
}
