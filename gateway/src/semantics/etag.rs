//! Entity tags: maps the `etag` of a resource to the headers of HTTP (RFC 9110, sections 8.8.3 and 13.1).

use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use service_kit::status::{ApiError, reason_name};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    http::error::HttpError,
    routing::binding::{BodyRule, Route},
};

const ETAG_FIELD: &str = "etag";

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
    if let Some(field) = tag_field(&route.input) {
        return set_tag(message, &field, tag);
    }
    let resource = match &route.body {
        BodyRule::Field(resource) if matches!(resource.kind(), Kind::Message(_)) && !resource.is_list() => resource,
        _ => return Err(malformed("this method does not accept If-Match")),
    };
    match message.get_field_mut(resource) {
        Value::Message(resource) => match tag_field(&resource.descriptor()) {
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

/// Returns the field of a message that contains its entity tag.
pub(crate) fn tag_field(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message.get_field_by_name(ETAG_FIELD).filter(|field| field.kind() == Kind::String && !field.is_list())
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

/// Returns the entity tag of a response message, if it is a resource.
#[must_use]
pub fn from_message(message: &DynamicMessage) -> Option<HeaderValue> {
    let tag = message.get_field(&tag_field(&message.descriptor())?).as_str()?.to_owned();
    HeaderValue::from_str(&tag).ok().filter(|tag| !tag.is_empty())
}

/// Reports whether `If-None-Match` contains the tag, by weak comparison (RFC 9110, section 13.1.2). The client then
/// has this version already.
#[must_use]
pub fn matches_if_none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|listed| listed.trim().trim_start_matches("W/"));
    tags.any(|listed| listed == "*" || listed == tag)
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
