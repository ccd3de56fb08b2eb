//! Entity tags: the `etag` of a resource as HTTP knows it (RFC 9110, sections 8.8.3 and 13.1).

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

const FIELD: &str = "etag";

/// Any version.
const ANY: &str = "*";

/// Puts the tag of `If-Match` where the request says which version it is about: into its own `etag`, or into that of
/// the resource in its body. `*` asks only that there is a resource, which every such RPC does.
///
/// # Errors
/// `MALFORMED_REQUEST` if there are several, another one is in the body, or the RPC takes none.
pub fn set_if_match(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) -> Result<(), ApiError> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let tag = value.to_str().ok().map(str::trim).filter(|tag| values.next().is_none() && !tag.contains("\","));
    let tag = tag.ok_or_else(|| malformed("If-Match must hold one entity tag"))?;
    if tag == ANY {
        return Ok(());
    }
    if let Some(field) = tag_field(&route.input) {
        return put(message, &field, tag);
    }
    let resource = match &route.body {
        BodyRule::Field(resource) if matches!(resource.kind(), Kind::Message(_)) && !resource.is_list() => resource,
        _ => return Err(malformed("this method takes no If-Match")),
    };
    match message.get_field_mut(resource) {
        Value::Message(resource) => match tag_field(&resource.descriptor()) {
            Some(field) => put(resource, &field, tag),
            None => Err(malformed("this method takes no If-Match")),
        },
        _ => Err(malformed("this method takes no If-Match")),
    }
}

fn put(message: &mut DynamicMessage, field: &FieldDescriptor, tag: &str) -> Result<(), ApiError> {
    let given = message.get_field(field).as_str().unwrap_or_default().to_owned();
    if !given.is_empty() && given != tag {
        return Err(malformed("If-Match and the etag of the body are not the same"));
    }
    message.set_field(field, Value::String(tag.to_owned()));
    Ok(())
}

/// The field of a message that holds its tag.
pub(crate) fn tag_field(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message.get_field_by_name(FIELD).filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// A mismatch with the tag of a header is 412; with one in the body it stays a conflict.
#[must_use]
pub fn refused(status: Status, headers: &HeaderMap) -> HttpError {
    let by_header = headers.get(header::IF_MATCH).is_some_and(|tag| tag != ANY);
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let mismatch = status.code() == Code::Aborted && reason == reason_name(ErrorReason::EtagMismatch);
    let error = HttpError::from(status);
    if mismatch && by_header { error.with_http(StatusCode::PRECONDITION_FAILED) } else { error }
}

/// The tag of an answer that is a resource.
#[must_use]
pub fn of(answer: &DynamicMessage) -> Option<HeaderValue> {
    let tag = answer.get_field(&tag_field(&answer.descriptor())?).as_str()?.to_owned();
    HeaderValue::from_str(&tag).ok().filter(|tag| !tag.is_empty())
}

/// Whether the client has this version already: `If-None-Match`, by weak comparison (RFC 9110, section 13.1.2).
#[must_use]
pub fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = values.flat_map(|value| value.split(',')).map(|known| known.trim().trim_start_matches("W/"));
    known.any(|known| known == "*" || known == tag)
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
