//! Compresses large responses for clients that accept gzip (RFC 9110, section 8.4).
//!
//! Responses with an `ETag` are never compressed. The tag is strong and is the `etag` of the resource, which clients
//! send back in `If-Match` and in bodies. The compressed representation would need a different tag (section 8.8.3.3),
//! which no service would recognize. This costs little: responses with a tag are single resources and small; large
//! lists have none.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use service_kit::status::ApiError;
use tonic::body::Body;

use crate::http::error::HttpError;

/// Minimum size of a compressed response. Smaller responses fit into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// Compresses a response if it is large text and the client accepts gzip. Streams have no known length and are not
/// compressed.
///
/// # Errors
/// `INTERNAL` if the body cannot be read completely.
pub async fn compress(response: Response<Body>, accepts_gzip: bool) -> Result<Response<Body>, HttpError> {
    let is_large = response.body().size_hint().exact().is_some_and(|length| length >= MIN_BYTES);
    if !is_large || !is_compressible(response.headers()) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !accepts_gzip {
        return Ok(Response::from_parts(parts, body));
    }
    let plain = body.collect().await?.to_bytes();
    // Compressing megabytes would block all other requests on this thread.
    let compressed = tokio::task::spawn_blocking(move || gzip(&plain)).await.map_err(ApiError::internal)?;
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::new(Full::from(compressed))))
}

fn is_compressible(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = content_type.starts_with("application/json") || content_type.starts_with("text/");
    is_text && !headers.contains_key(header::ETAG) && !headers.contains_key(header::CONTENT_ENCODING)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("writing to a vector cannot fail");
    encoder.finish().expect("writing to a vector cannot fail")
}
