//! HTTP semantics of RPCs: entity tags (RFC 9110, sections 8.8.3 and 13.1) are the `etag` of a resource,
//! `Idempotency-Key` is the `request_id` of a call (AIP-155), and `Prefer: return=minimal` (RFC 7240, section 4.2) omits
//! the body of the response to a write.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use service_kit::status::{ApiError, reason_name};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tonic_types::StatusExt;

use crate::{
    codec::wire,
    http::error::HttpError,
    routing::binding::{BodyRule, Route, etag_field},
};

/// Matches any version.
const ANY_VERSION: &str = "*";

/// Sets the `etag` of the request, or of the resource in its body, to the tag in `If-Match`. `*` only requires that
/// the resource exists, which every RPC with an etag checks anyway.
///
/// # Errors
/// `MALFORMED_REQUEST` if there are several tags, if the request contains a different tag, or if the RPC has no etag.
pub fn set_if_match(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) -> Result<(), ApiError> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let tag = value.to_str().ok().map(str::trim).filter(|tag| values.next().is_none() && !tag.contains("\","));
    let tag = tag.ok_or_else(|| malformed("If-Match must contain exactly one entity tag"))?;
    if tag == ANY_VERSION {
        return Ok(());
    }
    if let Some(field) = etag_field(&route.input) {
        return set_tag(message, &field, tag);
    }
    let resource = match &route.body {
        BodyRule::Field(resource) if matches!(resource.kind(), Kind::Message(_)) && !resource.is_list() => resource,
        _ => return Err(malformed("this method does not accept If-Match")),
    };
    match message.get_field_mut(resource) {
        Value::Message(resource) => match etag_field(&resource.descriptor()) {
            Some(field) => set_tag(resource, &field, tag),
            None => Err(malformed("this method does not accept If-Match")),
        },
        _ => Err(malformed("this method does not accept If-Match")),
    }
}

fn set_tag(message: &mut DynamicMessage, field: &FieldDescriptor, tag: &str) -> Result<(), ApiError> {
    let existing = message.get_field(field).as_str().unwrap_or_default().to_owned();
    if !existing.is_empty() && existing != tag {
        return Err(malformed("If-Match and the field etag differ"));
    }
    message.set_field(field, Value::String(tag.to_owned()));
    Ok(())
}

/// Converts the error of a call. An etag mismatch is 412 if the tag was in `If-Match`, otherwise 409.
#[must_use]
pub fn to_http_error(status: Status, headers: &HeaderMap) -> HttpError {
    let has_if_match = headers.get(header::IF_MATCH).is_some_and(|tag| tag != ANY_VERSION);
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let is_mismatch = status.code() == Code::Aborted && reason == reason_name(ErrorReason::EtagMismatch);
    let error = HttpError::from(status);
    if is_mismatch && has_if_match { error.with_status_code(StatusCode::PRECONDITION_FAILED) } else { error }
}

/// Returns the entity tag of an encoded response message, if it is a resource.
#[must_use]
pub fn response_etag(route: &Route, message: &[u8]) -> Option<HeaderValue> {
    let tag = wire::string_field(message, route.etag?)?;
    HeaderValue::from_str(tag).ok().filter(|tag| !tag.is_empty())
}

/// Reports whether `If-None-Match` contains the tag, by weak comparison (RFC 9110, section 13.1.2). The client then
/// has this version already.
#[must_use]
pub fn matches_if_none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|listed| listed.trim().trim_start_matches("W/"));
    tags.any(|listed| listed == "*" || listed == tag)
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks a replayed response, in gRPC metadata and in HTTP headers.
const REPLAYED: &str = "idempotent-replayed";

/// Sets the `request_id` of the request to the key in `Idempotency-Key`. The key may be a quoted string (RFC 8941,
/// section 3.3.3).
///
/// # Errors
/// `MALFORMED_REQUEST` if there are several keys, if the request contains a different id, or if the RPC has no
/// `request_id`.
pub fn set_request_id(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) -> Result<(), ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let key = value.to_str().ok().map(str::trim).map(unquote);
    let key = key.filter(|key| values.next().is_none() && !key.is_empty());
    let key = key.ok_or_else(|| malformed("Idempotency-Key must contain exactly one key"))?;
    let field = route.input.get_field_by_name("request_id").filter(|field| field.kind() == Kind::String);
    let field = field.ok_or_else(|| malformed("this method does not accept Idempotency-Key"))?;
    let existing = message.get_field(&field).as_str().unwrap_or_default().to_owned();
    if !existing.is_empty() && existing != key {
        return Err(malformed("Idempotency-Key and the field request_id differ"));
    }
    message.set_field(&field, Value::String(key.to_owned()));
    Ok(())
}

fn unquote(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

/// Copies the mark of a replayed response from the metadata to the headers.
pub fn mark_replayed(metadata: &MetadataMap, headers: &mut HeaderMap) {
    if metadata.contains_key(REPLAYED) {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

/// Reports whether the client prefers a response without a body, and the route allows that.
#[must_use]
pub fn prefers_minimal(request: &request::Parts, route: &Route) -> bool {
    may_be_minimal(&request.method, &route.output, route.response_body.as_ref()) && wants_minimal(&request.headers)
}

/// Reports whether the body of the response may be omitted. That is the case for writes that return a resource or an
/// empty message; other calls are made for the sake of their response.
pub(crate) fn may_be_minimal(method: &Method, output: &MessageDescriptor, body: Option<&FieldDescriptor>) -> bool {
    let is_write = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let is_resource = etag_field(output).is_some() && body.is_none();
    is_write && (is_resource || output.fields().len() == 0)
}

fn wants_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences =
        values.flat_map(|value| value.split(',')).filter_map(|preference| preference.split(';').next());
    // The first preference with a given name applies (section 2).
    preferences.find_map(return_preference).is_some_and(|value| value.eq_ignore_ascii_case("minimal"))
}

/// Returns the value of a preference if its name is `return`.
fn return_preference(preference: &str) -> Option<&str> {
    let (name, value) = preference.split_once('=')?;
    name.trim().eq_ignore_ascii_case("return").then(|| value.trim().trim_matches('"'))
}

/// Creates a response without a body.
#[must_use]
pub fn minimal_response() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(MINIMAL));
    response
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_return_preference_applies() {
        for (prefer, is_minimal) in [
            ("return=minimal", true),
            ("Return = \"minimal\"", true),
            ("respond-async, return=minimal; foo=bar", true),
            ("return=minimal, return=representation", true),
            ("return=representation, return=minimal", false),
            ("return", false),
            ("minimal", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static(prefer))]);
            assert_eq!(wants_minimal(&headers), is_minimal, "{prefer}");
        }
    }
}
