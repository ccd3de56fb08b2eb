//! What a client takes for an answer (RFC 9110, section 12.5): JSON, by itself or as a stream, and whether it may be
//! compressed.

use http::{HeaderMap, HeaderName, StatusCode, header};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use crate::http::error::HttpError;

/// How the messages of a stream are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A line of JSON for each.
    Lines,
    /// An event for each, which browsers read (WHATWG HTML, section 9.2).
    Events,
}

impl Framing {
    /// The type of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }
}

/// Refuses a client that takes no JSON. One that says nothing takes anything.
fn check_accept(headers: &HeaderMap) -> Result<(), HttpError> {
    let takes_json = weight(headers, &["application/json", "application/*", "*/*"]) > 0.0;
    if takes_json { Ok(()) } else { Err(not_acceptable("the answer is JSON: send accept: application/json")) }
}

/// How a client wants a stream: as events if it names them and likes nothing better, otherwise as lines. Who takes JSON
/// takes lines of it. What is no stream is JSON.
///
/// # Errors
/// 406 if it takes no such thing.
pub fn framing(headers: &HeaderMap, streams: bool) -> Result<Option<Framing>, HttpError> {
    if !streams {
        return check_accept(headers).map(|()| None);
    }
    let lines = weight(headers, &[Framing::Lines.content_type(), "application/json", "application/*", "*/*"]);
    let events = find(&weights(headers, &header::ACCEPT), &[Framing::Events.content_type()]).unwrap_or(0.0);
    if events > 0.0 && events >= lines {
        Ok(Some(Framing::Events))
    } else if lines > 0.0 {
        Ok(Some(Framing::Lines))
    } else {
        Err(not_acceptable("the answer is a stream: send accept: text/event-stream or application/x-ndjson"))
    }
}

/// How much a client likes answers of the first of `types` that it names.
fn weight(headers: &HeaderMap, types: &[&str]) -> f32 {
    let ranges = weights(headers, &header::ACCEPT);
    if ranges.is_empty() { 1.0 } else { find(&ranges, types).unwrap_or(0.0) }
}

fn not_acceptable(message: &'static str) -> HttpError {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message);
    HttpError::from(error).with_http(StatusCode::NOT_ACCEPTABLE)
}

/// Whether a client takes gzip, and does not like an answer as it is better.
#[must_use]
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = weights(headers, &header::ACCEPT_ENCODING);
    let gzip = find(&codings, &["gzip", "x-gzip", "*"]).unwrap_or(0.0);
    gzip > 0.0 && gzip >= find(&codings, &["identity"]).unwrap_or(0.0)
}

/// The weight of the first of `names` that is listed. The most specific one comes first, since it counts.
fn find(weights: &[(&str, f32)], names: &[&str]) -> Option<f32> {
    let weight_of = |name: &&str| weights.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(name));
    names.iter().find_map(weight_of).map(|(_, weight)| *weight)
}

/// What a header lists, each with its weight: 1 unless it says `q=`. What cannot be read is passed over.
fn weights<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<(&'h str, f32)> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let entries = texts.flat_map(|text| text.split(',')).filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let listed = parts.next().filter(|listed| !listed.is_empty())?;
        let given = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((listed, given.map_or(Ok(1.0), str::parse).ok()?))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_most_specific_range_counts() {
        for (accept, is_taken) in [
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
            assert_eq!(check_accept(&with(header::ACCEPT, accept)).is_ok(), is_taken, "{accept}");
        }
        assert!(check_accept(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_stream_comes_as_events_where_they_are_named_and_liked_best() {
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
            assert_eq!(framing(&with(header::ACCEPT, accept), true).ok().flatten(), expected, "{accept}");
        }
        assert_eq!(framing(&HeaderMap::new(), true).ok(), Some(Some(Framing::Lines)));
    }

    #[test]
    fn gzip_is_taken_where_it_is_named_and_liked() {
        for (codings, is_taken) in [
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
            assert_eq!(takes_gzip(&with(header::ACCEPT_ENCODING, codings)), is_taken, "{codings}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
