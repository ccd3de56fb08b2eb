//! Requests that may come again: `Idempotency-Key` is the `request_id` of a call (AIP-155).

use http::{HeaderMap, HeaderName, HeaderValue};
use prost_reflect::{DynamicMessage, Kind, Value};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, metadata::MetadataMap};

use crate::routing::binding::Route;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks an answer that was given before, over gRPC and over HTTP alike.
const REPLAYED: &str = "idempotent-replayed";

/// Puts the key of the header where the request has its id. It may stand in quotes, as structured fields have it
/// (RFC 8941, section 3.3.3).
///
/// # Errors
/// `MALFORMED_REQUEST` if there are several, another id is in the body, or the RPC takes none.
pub fn set_request_id(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) -> Result<(), ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let key = value.to_str().ok().map(str::trim).map(unquoted);
    let key = key.filter(|key| values.next().is_none() && !key.is_empty());
    let key = key.ok_or_else(|| malformed("Idempotency-Key must hold one key"))?;
    let field = route.input.get_field_by_name("request_id").filter(|field| field.kind() == Kind::String);
    let field = field.ok_or_else(|| malformed("this method takes no Idempotency-Key"))?;
    let given = message.get_field(&field).as_str().unwrap_or_default().to_owned();
    if !given.is_empty() && given != key {
        return Err(malformed("Idempotency-Key and the request id of the request are not the same"));
    }
    message.set_field(&field, Value::String(key.to_owned()));
    Ok(())
}

fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

/// Passes on that the answer was given before.
pub fn mark_replayed(metadata: &MetadataMap, headers: &mut HeaderMap) {
    if metadata.contains_key(REPLAYED) {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
