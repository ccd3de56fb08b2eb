//! Large answers, made smaller for who takes gzip (RFC 9110, section 8.4).
//!
//! An answer with an `ETag` is never compressed. Its tag is strong and is the `etag` of the resource, which clients give
//! back in `If-Match` and in bodies; the compressed form would need a tag of its own (section 8.8.3.3) that no service
//! knows. What bears one is a single resource, and not large; lists, which are, bear none.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use service_kit::status::ApiError;
use tonic::body::Body;

use crate::http::error::HttpError;

/// A smaller answer fits into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// Compresses an answer if it is large and of text, and the client takes gzip. A stream has no length and stays as it
/// is.
///
/// # Errors
/// `INTERNAL` if the answer breaks off.
pub async fn compress(response: Response<Body>, takes_gzip: bool) -> Result<Response<Body>, HttpError> {
    let is_large = response.body().size_hint().exact().is_some_and(|length| length >= MIN_BYTES);
    if !is_large || !may_be_compressed(response.headers()) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !takes_gzip {
        return Ok(Response::from_parts(parts, body));
    }
    let plain = body.collect().await?.to_bytes();
    // Millions of bytes would hold up all other requests of the thread.
    let smaller = tokio::task::spawn_blocking(move || gzip(&plain)).await.map_err(ApiError::internal)?;
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::new(Full::from(smaller))))
}

fn may_be_compressed(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = content_type.starts_with("application/json") || content_type.starts_with("text/");
    is_text && !headers.contains_key(header::ETAG) && !headers.contains_key(header::CONTENT_ENCODING)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("a vector takes all that is written");
    encoder.finish().expect("a vector takes all that is written")
}
