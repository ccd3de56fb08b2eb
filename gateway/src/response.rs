//! From the response message of an RPC to HTTP.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::{DynamicMessage, ReflectMessage, SerializeOptions};
use serde_json::value::RawValue;
use service_kit::status::Refusal;
use tonic::body::Body;

use crate::binding::Route;

/// Canonical proto3 JSON, with fields that have their default value, so that a client sees every field that there is.
/// A message that is not there has no value to show and is left out.
const OPTIONS: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// The answer to a call that went well: the response message, or the field of it that the route names.
///
/// # Errors
/// `INTERNAL` if the message cannot be written as JSON, such as a timestamp out of range.
pub fn from_message(route: &Route, message: &DynamicMessage) -> Result<Response<Body>, Refusal> {
    let mut body = to_json(message)?;
    if let Some(field) = &route.response_body {
        let fields: HashMap<String, &RawValue> = serde_json::from_slice(&body).map_err(Refusal::internal)?;
        body = fields.get(field.json_name()).map_or("null", |value| value.get()).into();
    }
    Ok(json(StatusCode::OK, body))
}

/// A message as the gateway writes it.
///
/// # Errors
/// `INTERNAL` if it cannot be written as JSON.
pub fn to_json(message: &DynamicMessage) -> Result<Vec<u8>, Refusal> {
    let mut json = Vec::new();
    match message.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &OPTIONS) {
        Ok(()) => Ok(json),
        Err(error) => {
            Err(Refusal::internal(format!("{} cannot be written: {error}", message.descriptor().full_name())))
        }
    }
}

/// The answer to who has this version already: no body, and nothing that describes one.
#[must_use]
pub fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// An answer in JSON.
#[must_use]
pub fn json(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
