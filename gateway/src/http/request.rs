//! Converts an HTTP request to the request message of an RPC: path, query, body and, for PATCH, the field mask.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use hyper::body::Body;
use prost_reflect::{DynamicMessage, Value};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use crate::{
    backend,
    body::{Incomplete, read_to_end},
    codec::{
        json::{self, Json},
        mask, message,
        parameter::{self, FieldPath},
        violation::FieldViolation,
        well_known,
    },
    http::error::HttpError,
    quota::Permit,
    routing::binding::{BodyRule, Forms, PathVariable, Route},
};

/// Maximum length of the path and query. RFC 9110, section 4.1, recommends at least 8000 octets.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Limits of JSON request bodies.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Maximum size of a body.
    pub max_bytes: usize,
    /// Maximum nesting depth of arrays and objects.
    pub max_depth: usize,
}

/// The parts of an HTTP request that become the request message, except for its headers.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The segments of the path, percent-encoded.
    pub segments: &'a [&'a str],
    /// The query, percent-encoded.
    pub query: &'a str,
    /// The body; empty if there is none.
    pub body: &'a [u8],
    /// The format of the body.
    pub format: Format,
}

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON in UTF-8.
    Json,
    /// `application/x-www-form-urlencoded`, which has the syntax of a query.
    Form,
}

/// Reads the body of a request until the deadline. Stops reading at the size limit.
///
/// # Errors
/// `MESSAGE_TOO_LARGE`; `MALFORMED_REQUEST` if the connection ends before the body is complete; `OVERLOADED` if there is
/// no memory for the body; 408 if it does not arrive in time.
pub async fn read_body<B>(
    body: B,
    limits: JsonLimits,
    permit: &mut Permit,
    deadline: Instant,
) -> Result<Bytes, HttpError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        let message = format!("the body is larger than {} bytes", limits.max_bytes);
        ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limits.max_bytes {
        return Err(too_large().into());
    }
    match timeout_at(deadline, read_to_end(body, limits.max_bytes, |bytes| permit.grow(bytes))).await {
        Ok(Ok(body)) => Ok(body.bytes),
        Ok(Err(Incomplete::TooLarge)) => Err(too_large().into()),
        Ok(Err(Incomplete::Refused(status))) => Err(refused_body(status)),
        Ok(Err(Incomplete::Broken(_))) => Err(malformed("the body ended early").into()),
        Err(_) => Err(refused_body(backend::request_timeout().into())),
    }
}

/// Returns the error of a request whose body was refused: 408 if it did not arrive in time.
fn refused_body(status: Status) -> HttpError {
    let is_late = status.code() == Code::DeadlineExceeded;
    let error = HttpError::from(status);
    if is_late { error.with_status_code(StatusCode::REQUEST_TIMEOUT) } else { error }
}

/// Checks that the path and query are not too long.
///
/// # Errors
/// 414 if they are.
pub fn check_target(target: &Uri) -> Result<(), HttpError> {
    if target.path_and_query().is_none_or(|target| target.as_str().len() <= MAX_TARGET_BYTES) {
        return Ok(());
    }
    let error = malformed(format!("the path and query are longer than {MAX_TARGET_BYTES} bytes"));
    Err(HttpError::from(error).with_status_code(StatusCode::URI_TOO_LONG))
}

/// Checks that the body is not compressed.
///
/// # Errors
/// 415 if it is.
pub fn check_encoding(headers: &HeaderMap) -> Result<(), HttpError> {
    if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let error = HttpError::from(malformed("the body must not be compressed"));
        // RFC 9110, section 15.5.16: the response lists the accepted codings.
        let identity = HeaderValue::from_static("identity");
        return Err(error
            .with_status_code(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .with_header(header::ACCEPT_ENCODING, identity));
    }
    Ok(())
}

/// Returns the format of the body, which is JSON if the request has no content type.
///
/// # Errors
/// 415 if the route does not accept the content type, or if the body is compressed.
pub fn body_format(headers: &HeaderMap, route: &Route) -> Result<Format, HttpError> {
    check_encoding(headers)?;
    let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
    match types[..] {
        [] => return Ok(Format::Json),
        [only] if only.to_str().is_ok_and(is_json) => return Ok(Format::Json),
        [only] if route.forms == Forms::Accepted && only.to_str().is_ok_and(is_form) => return Ok(Format::Form),
        _ => {}
    }
    let error = malformed("the body must be JSON in UTF-8: send content-type: application/json");
    Err(HttpError::from(error).with_status_code(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

fn is_json(content_type: &str) -> bool {
    has_utf8_media_type("application/json", content_type)
}

/// Reports whether a content type is that of forms.
#[must_use]
pub fn is_form(content_type: &str) -> bool {
    has_utf8_media_type("application/x-www-form-urlencoded", content_type)
}

fn has_utf8_media_type(expected: &str, content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(expected)
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Builds the request message. Returns it, and whether its field mask is derived from the body.
///
/// # Errors
/// `MALFORMED_REQUEST` if the body is not JSON, or if the method does not accept a body. `VALIDATION_FAILED` with the
/// field that is invalid, or that has different values in the path and the body.
pub fn to_message(route: &Route, input: Input<'_>, limits: JsonLimits) -> Result<(DynamicMessage, bool), ApiError> {
    let body = if input.format == Format::Json { parse_body(route, input.body, limits)? } else { None };
    let mut message = match (&route.body, &body) {
        _ if input.format == Format::Form => message_from_form(route, input.body, limits)?,
        (BodyRule::Whole, Some(json)) => message::from_json(&route.input, json, limits.max_depth)?,
        _ => DynamicMessage::new(route.input.clone()),
    };
    if let (BodyRule::Field(field), Some(json)) = (&route.body, &body) {
        let value =
            message::value(field, json, limits.max_depth).map_err(|violation| violation.in_field(field.name()))?;
        if let Some(value) = value {
            message.set_field(field, value);
        }
    }
    let query_fields =
        parameter::read_query(&mut message, input.query, limits.max_depth, |path| query_violation(route, path))?;
    let has_derived_mask = !query_fields.contains("update_mask") && derive_mask(&mut message, route, body.as_ref());
    for variable in &route.variables {
        set_variable(&mut message, variable, input.segments)?;
    }
    Ok((message, has_derived_mask))
}

/// Sets a field to the value of its path variable. A different value in the body is refused, since it would identify
/// another resource than the path does.
fn set_variable(
    message: &mut DynamicMessage,
    variable: &PathVariable,
    segments: &[&str],
) -> Result<(), FieldViolation> {
    let PathVariable { variable, field } = variable;
    let text =
        variable.value(segments).map_err(|error| FieldViolation::new(error.to_string()).in_field(&field.name()))?;
    let body_value = field.get(message);
    field.set_from_text(message, &text)?;
    if body_value.is_some() && body_value != field.get(message) {
        return Err(FieldViolation::new("does not match the path").in_field(&field.name()));
    }
    Ok(())
}

/// Parses the request message from a form.
fn message_from_form(route: &Route, form: &[u8], limits: JsonLimits) -> Result<DynamicMessage, ApiError> {
    let form = std::str::from_utf8(form).map_err(|_| malformed("the form is not UTF-8"))?;
    let mut message = DynamicMessage::new(route.input.clone());
    parameter::read_query(&mut message, form, limits.max_depth, |_| None)?;
    Ok(message)
}

fn parse_body(route: &Route, body: &[u8], limits: JsonLimits) -> Result<Option<Json>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    if matches!(route.body, BodyRule::None) {
        return Err(malformed("this method does not accept a body"));
    }
    let parsed = serde_json::from_slice(body).or_else(|error| {
        let replaced = json::replace_too_large_numbers(body);
        replaced.and_then(|body| serde_json::from_slice(&body).ok()).ok_or(error)
    });
    parsed.map(Some).map_err(|error| {
        // The parser's messages may quote the body, so they are not returned. Its depth limit is above `max_depth`.
        let (line, column) = (error.line(), error.column());
        let depth = limits.max_depth;
        malformed(format!("the body is not JSON, or is nested deeper than {depth}: line {line}, column {column}"))
    })
}

/// Describes why the query must not contain a field. Returns `None` if it may.
fn query_violation(route: &Route, path: &FieldPath) -> Option<&'static str> {
    if route.variables.iter().any(|variable| variable.field.name() == path.name()) {
        return Some("is already set by the path");
    }
    match &route.body {
        BodyRule::Whole => Some("must be in the body, not in the query"),
        BodyRule::Field(field) if field == path.first() => Some("must be in the body, not in the query"),
        BodyRule::Field(_) | BodyRule::None => None,
    }
}

/// Sets the field mask of a PATCH to the keys of its body, except for the etag and the fields in the path, which only
/// identify the resource and its version. If no keys remain, the mask stays unset: the service then updates the
/// fields that are set, and none are set. Returns whether it is set.
fn derive_mask(message: &mut DynamicMessage, route: &Route, body: Option<&Json>) -> bool {
    let (Some(mask), BodyRule::Field(field), Some(json)) = (&route.mask, &route.body, body) else { return false };
    let (field_kind, mask_kind) = (field.kind(), mask.kind());
    let (Some(resource), Some(mask_type)) = (field_kind.as_message(), mask_kind.as_message()) else { return false };
    let mut paths = mask::paths(resource, json);
    paths.retain(|path| {
        let full = format!("{}.{path}", field.name());
        path != "etag" && route.variables.iter().all(|variable| variable.field.name() != full)
    });
    let is_derived = !paths.is_empty();
    if is_derived {
        message.set_field(mask, Value::Message(well_known::field_mask(mask_type, paths)));
    }
    is_derived
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
