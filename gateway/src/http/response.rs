//! Converts the response message of an RPC to an HTTP response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage};
use service_kit::status::ApiError;
use tonic::body::Body;

use crate::{
    codec::write::{FieldJson, MessageJson},
    conversion::convert,
    routing::binding::Route,
};

/// Creates the response to a successful call, whose encoded message has this size.
///
/// # Errors
/// Those of [`to_json`].
pub async fn from_message(route: &Route, message: DynamicMessage, bytes: usize) -> Result<Response<Body>, ApiError> {
    let field = route.response_body.clone();
    let body = convert(bytes, move || to_json(&message, field.as_ref())).await??;
    Ok(json(StatusCode::OK, body))
}

/// Serializes a response message, or only one field of it.
///
/// # Errors
/// `INTERNAL` if JSON cannot represent it, for example a timestamp out of range.
pub fn to_json(message: &DynamicMessage, field: Option<&FieldDescriptor>) -> Result<Vec<u8>, ApiError> {
    let json = match field {
        Some(field) => serde_json::to_vec(&FieldJson(message, field)),
        None => serde_json::to_vec(&MessageJson(message)),
    };
    json.map_err(|error| {
        ApiError::internal(format!("{} cannot be serialized: {error}", message.descriptor().full_name()))
    })
}

/// Creates a 304 response, without a body and without headers that describe one.
#[must_use]
pub fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Creates a response with a JSON body.
#[must_use]
pub fn json(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
