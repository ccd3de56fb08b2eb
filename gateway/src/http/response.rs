//! Converts the response message of an RPC to an HTTP response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use service_kit::status::ApiError;
use tonic::body::Body;

use crate::{codec::message_writer::MessageWriter, conversion::convert};

/// Writes an encoded response message as JSON.
///
/// # Errors
/// `INTERNAL` if it is malformed, or if JSON cannot represent it, for example a timestamp out of range.
pub async fn to_json(writer: &MessageWriter, message: Bytes) -> Result<Vec<u8>, ApiError> {
    let writer = writer.clone();
    let json = convert(message.len(), move || writer.to_json(&message)).await?;
    json.map_err(|error| ApiError::internal(format!("a response cannot be written as JSON: {error}")))
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
