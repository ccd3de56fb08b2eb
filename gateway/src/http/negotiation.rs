//! Content negotiation (RFC 9110, section 12.5): whether the client accepts JSON, which framing it prefers for
//! streams, and the compression of responses.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, body::Body};

use crate::{conversion::convert, http::error::HttpError};

/// The framing of the messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One line of JSON per message.
    Lines,
    /// One server-sent event per message, for browsers (WHATWG HTML, section 9.2).
    Events,
}

impl Framing {
    /// Returns the content type of the response.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }
}

/// Checks that the client accepts JSON. A client without `Accept` accepts everything.
fn check_accept(headers: &HeaderMap) -> Result<(), HttpError> {
    let accepts_json = weight(headers, &["application/json", "application/*", "*/*"]) > 0.0;
    if accepts_json { Ok(()) } else { Err(not_acceptable("the response is JSON: send accept: application/json")) }
}

/// Returns the framing of a stream, or `None` if the RPC does not return a stream. Events are used if the client
/// lists them explicitly and prefers nothing else, otherwise lines. A client that accepts JSON accepts lines of JSON.
///
/// # Errors
/// 406 if the client accepts none of these.
pub fn framing(headers: &HeaderMap, is_stream: bool) -> Result<Option<Framing>, HttpError> {
    if !is_stream {
        return check_accept(headers).map(|()| None);
    }
    let lines = weight(headers, &[Framing::Lines.content_type(), "application/json", "application/*", "*/*"]);
    let events = find_weight(&weights(headers, &header::ACCEPT), &[Framing::Events.content_type()]).unwrap_or(0.0);
    if events > 0.0 && events >= lines {
        Ok(Some(Framing::Events))
    } else if lines > 0.0 {
        Ok(Some(Framing::Lines))
    } else {
        Err(not_acceptable("the response is a stream: send accept: text/event-stream or application/x-ndjson"))
    }
}

/// Returns the weight of the first of `types` that the client lists, or 1 if it has no `Accept`.
fn weight(headers: &HeaderMap, types: &[&str]) -> f32 {
    let ranges = weights(headers, &header::ACCEPT);
    if ranges.is_empty() { 1.0 } else { find_weight(&ranges, types).unwrap_or(0.0) }
}

fn not_acceptable(message: &'static str) -> HttpError {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message);
    HttpError::from(error).with_status_code(StatusCode::NOT_ACCEPTABLE)
}

/// Reports whether the client accepts gzip and does not prefer an uncompressed response.
#[must_use]
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = weights(headers, &header::ACCEPT_ENCODING);
    let gzip = find_weight(&codings, &["gzip", "x-gzip", "*"]).unwrap_or(0.0);
    gzip > 0.0 && gzip >= find_weight(&codings, &["identity"]).unwrap_or(0.0)
}

/// Returns the weight of the first of `names` that is listed. Callers order `names` from specific to general, since
/// the most specific range applies.
fn find_weight(weights: &[(&str, f32)], names: &[&str]) -> Option<f32> {
    let find_entry = |name: &&str| weights.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(name));
    names.iter().find_map(find_entry).map(|(_, weight)| *weight)
}

/// Returns the entries of a header with their weights, which are 1 by default. Invalid entries are ignored.
fn weights<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<(&'h str, f32)> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let entries = texts.flat_map(|text| text.split(',')).filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let listed = parts.next().filter(|listed| !listed.is_empty())?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((listed, quality.map_or(Ok(1.0), str::parse).ok()?))
    });
    entries.collect()
}

/// Minimum size of a compressed response. Smaller responses fit into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// Compresses a response if it is large text and the client accepts gzip (RFC 9110, section 8.4). Streams have no known length and are not
/// compressed.
///
/// Responses with an `ETag` are never compressed. The tag is strong and is the `etag` of the resource, which clients
/// send back in `If-Match` and in bodies. The compressed representation would need a different tag (section 8.8.3.3),
/// which no service would recognize. This costs little: responses with a tag are single resources and small; large
/// lists have none.
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
    let compressed = convert(plain.len(), move || gzip(&plain)).await?;
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn most_specific_range_applies() {
        for (accept, is_accepted) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/html, */*;q=0.1", true),
            ("application/*", true),
            ("", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("*/*, application/json;q=0.0", false),
            ("*/*;q=0", false),
            ("text/event-stream", false),
        ] {
            assert_eq!(check_accept(&headers(header::ACCEPT, accept)).is_ok(), is_accepted, "{accept}");
        }
        assert!(check_accept(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn events_are_used_if_they_are_listed_and_preferred() {
        for (accept, expected) in [
            ("text/event-stream", Some(Framing::Events)),
            ("text/event-stream, application/json;q=0.9", Some(Framing::Events)),
            ("text/event-stream, application/x-ndjson", Some(Framing::Events)),
            ("Text/Event-Stream, */*", Some(Framing::Events)),
            ("application/json, text/event-stream;q=0.5", Some(Framing::Lines)),
            ("Application/X-NDJSON", Some(Framing::Lines)),
            ("application/json", Some(Framing::Lines)),
            ("*/*", Some(Framing::Lines)),
            ("", Some(Framing::Lines)),
            ("text/html", None),
            ("text/event-stream;q=0, */*", Some(Framing::Lines)),
            ("*/*;q=0", None),
        ] {
            assert_eq!(framing(&headers(header::ACCEPT, accept), true).ok().flatten(), expected, "{accept}");
        }
        assert_eq!(framing(&HeaderMap::new(), true).ok(), Some(Some(Framing::Lines)));
    }

    #[test]
    fn gzip_is_used_if_it_is_listed_and_preferred() {
        for (codings, is_accepted) in [
            ("gzip", true),
            ("GZIP;q=0.5, br", true),
            ("*", true),
            ("x-gzip", true),
            ("deflate, br", false),
            ("gzip;q=0", false),
            ("*, gzip;q=0", false),
            ("identity, gzip;q=0.5", false),
            ("gzip;q=nonsense", false),
        ] {
            assert_eq!(accepts_gzip(&headers(header::ACCEPT_ENCODING, codings)), is_accepted, "{codings}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
