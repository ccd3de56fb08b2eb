//! From an HTTP request to the request message of an RPC: path, query, body and, for PATCH, the field mask.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use prost_reflect::{DynamicMessage, Value};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use crate::{
    codec::{
        json::Json,
        mask, message,
        parameter::{self, FieldPath},
        violation::FieldViolation,
        well_known,
    },
    http::error::HttpError,
    routing::binding::{BodyRule, PathVariable, Route},
};

/// The longest path and query; RFC 9110, section 4.1, asks for 8000 octets at least.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// The limits of JSON.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// The largest body that is read.
    pub max_bytes: usize,
    /// How deep lists and objects may be nested.
    pub max_depth: usize,
}

/// What an HTTP request says, apart from its headers.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The segments of the path, as they were sent.
    pub segments: &'a [&'a str],
    /// The query, as it was sent.
    pub query: &'a str,
    /// The body; empty if there is none.
    pub body: &'a [u8],
    /// What the body is written in.
    pub format: Format,
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON in UTF-8.
    Json,
    /// `application/x-www-form-urlencoded`, which is written as a query is.
    Form,
}

/// Reads the body of a request. What is larger than the limit is not read to its end.
///
/// # Errors
/// `MESSAGE_TOO_LARGE`, or `MALFORMED_REQUEST` if the connection ends before the body does.
pub async fn read_body<B>(body: B, limits: JsonLimits) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        let message = format!("the body is larger than {} bytes", limits.max_bytes);
        ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.max_bytes {
        return Err(too_large());
    }
    match Limited::new(body, limits.max_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(malformed("the body ended early")),
    }
}

/// Refuses a target that is longer than anything which this gateway has a use for.
///
/// # Errors
/// 414 if it is so.
pub fn check_target(target: &Uri) -> Result<(), HttpError> {
    if target.path_and_query().is_none_or(|target| target.as_str().len() <= MAX_TARGET_BYTES) {
        return Ok(());
    }
    let error = malformed(format!("the path and its query are longer than {MAX_TARGET_BYTES} bytes"));
    Err(HttpError::from(error).with_http(StatusCode::URI_TOO_LONG))
}

/// What a body says that it is written in; one that says nothing is JSON.
///
/// # Errors
/// 415 if it is anything that the route does not take, or compressed.
pub fn format(headers: &HeaderMap, route: &Route) -> Result<Format, HttpError> {
    if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let error = HttpError::from(malformed("the body must not be compressed"));
        // RFC 9110, section 15.5.16: it says which codings would do.
        let none = HeaderValue::from_static("identity");
        return Err(error.with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE).with_header(header::ACCEPT_ENCODING, none));
    }
    let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
    match types[..] {
        [] => return Ok(Format::Json),
        [only] if only.to_str().is_ok_and(is_json) => return Ok(Format::Json),
        [only] if route.takes_form && only.to_str().is_ok_and(is_form) => return Ok(Format::Form),
        _ => {}
    }
    let error = malformed("the body must be JSON in UTF-8: send content-type: application/json");
    Err(HttpError::from(error).with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

fn is_json(content_type: &str) -> bool {
    is_utf8_of("application/json", content_type)
}

fn is_form(content_type: &str) -> bool {
    is_utf8_of("application/x-www-form-urlencoded", content_type)
}

fn is_utf8_of(expected: &str, content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(expected)
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Builds the request message.
///
/// # Errors
/// `MALFORMED_REQUEST` if the body is not JSON or there is one where none is taken; `VALIDATION_FAILED` with the field
/// that is at fault, be it that the body says of it what the path does not.
pub fn to_message(route: &Route, input: Input<'_>, limits: JsonLimits) -> Result<DynamicMessage, ApiError> {
    let body = if input.format == Format::Json { parse(route, input.body, limits)? } else { None };
    let mut message = match (&route.body, &body) {
        _ if input.format == Format::Form => from_form(route, input.body, limits)?,
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
    let in_query = parameter::read_query(&mut message, input.query, limits.max_depth, |path| taken(route, path))?;
    if !in_query.contains("update_mask") {
        derive_mask(&mut message, route, body.as_ref());
    }
    for variable in &route.variables {
        put_variable(&mut message, variable, input.segments)?;
    }
    Ok(message)
}

/// Puts what the path says into the message. A body that says something else of the same field means another resource
/// than the path, and nobody can tell which is the right one.
fn put_variable(
    message: &mut DynamicMessage,
    variable: &PathVariable,
    segments: &[&str],
) -> Result<(), FieldViolation> {
    let PathVariable { variable, field } = variable;
    let text =
        variable.value(segments).map_err(|error| FieldViolation::new(error.to_string()).in_field(&field.name()))?;
    let given = field.get(message);
    field.put(message, &text)?;
    if given.is_some() && given != field.get(message) {
        return Err(FieldViolation::new("is not what the path says").in_field(&field.name()));
    }
    Ok(())
}

/// The message that a form makes.
fn from_form(route: &Route, form: &[u8], limits: JsonLimits) -> Result<DynamicMessage, ApiError> {
    let form = std::str::from_utf8(form).map_err(|_| malformed("the form is not UTF-8"))?;
    let mut message = DynamicMessage::new(route.input.clone());
    parameter::read_query(&mut message, form, limits.max_depth, |_| None)?;
    Ok(message)
}

fn parse(route: &Route, body: &[u8], limits: JsonLimits) -> Result<Option<Json>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    if matches!(route.body, BodyRule::None) {
        return Err(malformed("this method takes no body"));
    }
    serde_json::from_slice(body).map(Some).map_err(|error| {
        // The parser's own limit is beyond ours, and its texts may quote the body.
        let (line, column) = (error.line(), error.column());
        let depth = limits.max_depth;
        malformed(format!("the body is not JSON, or is nested deeper than {depth}: line {line}, column {column}"))
    })
}

/// Where else than in the query the field is to be given.
fn taken(route: &Route, path: &FieldPath) -> Option<&'static str> {
    if route.variables.iter().any(|variable| variable.field.name() == path.name()) {
        return Some("is given by the path");
    }
    match &route.body {
        BodyRule::Whole => Some("belongs into the body"),
        BodyRule::Field(field) if field == path.first() => Some("belongs into the body"),
        BodyRule::Field(_) | BodyRule::None => None,
    }
}

/// Puts the keys of a PATCH's body into the mask, but for those that say which version of which resource is meant.
/// A body without any other key leaves the mask out: then what is set counts, and nothing is.
fn derive_mask(message: &mut DynamicMessage, route: &Route, body: Option<&Json>) {
    let (Some(mask), BodyRule::Field(field), Some(json)) = (&route.mask, &route.body, body) else { return };
    let (field_kind, mask_kind) = (field.kind(), mask.kind());
    let (Some(resource), Some(mask_type)) = (field_kind.as_message(), mask_kind.as_message()) else { return };
    let mut paths = mask::paths(resource, json);
    paths.retain(|path| {
        let full = format!("{}.{path}", field.name());
        path != "etag" && route.variables.iter().all(|variable| variable.field.name() != full)
    });
    if !paths.is_empty() {
        message.set_field(mask, Value::Message(well_known::mask_of(mask_type, paths)));
    }
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
