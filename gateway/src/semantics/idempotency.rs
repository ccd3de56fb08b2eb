//! Retries: maps `Idempotency-Key` to the `request_id` of a call (AIP-155).

use http::{HeaderMap, HeaderName, HeaderValue};
use prost_reflect::{DynamicMessage, Kind, Value};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, metadata::MetadataMap};

use crate::routing::binding::Route;

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

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}
