//! `Prefer: return=minimal` (RFC 7240, section 4.2): who knows already what a write has made of a resource gets no body.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use tonic::body::Body;

use crate::{routing::binding::Route, semantics::etag};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

/// Whether the client wants no body, and may go without.
#[must_use]
pub fn is_minimal(request: &request::Parts, route: &Route) -> bool {
    may_be_minimal(&request.method, &route.output, route.response_body.as_ref()) && wants_minimal(&request.headers)
}

/// Whether a client may go without the body: a write answers a resource, or nothing at all. Of any other call the answer
/// is the point.
pub(crate) fn may_be_minimal(method: &Method, output: &MessageDescriptor, body: Option<&FieldDescriptor>) -> bool {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let is_resource = etag::tag_field(output).is_some() && body.is_none();
    writes && (is_resource || output.fields().len() == 0)
}

fn wants_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
    // The first one of a name counts (section 2).
    preferences.find_map(return_of).is_some_and(|wanted| wanted.eq_ignore_ascii_case("minimal"))
}

/// The value of a preference if it is `return`.
fn return_of(preference: &str) -> Option<&str> {
    let (name, value) = preference.split_once('=')?;
    name.trim().eq_ignore_ascii_case("return").then(|| value.trim().trim_matches('"'))
}

/// The answer without a body.
#[must_use]
pub fn minimal() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(MINIMAL));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_counts() {
        for (prefer, is_minimal) in [
            ("return=minimal", true),
            ("Return = \"minimal\"", true),
            ("respond-async, return=minimal; foo=bar", true),
            ("return=minimal, return=representation", true),
            ("return=representation, return=minimal", false),
            ("return", false),
            ("minimal", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static(prefer))]);
            assert_eq!(wants_minimal(&headers), is_minimal, "{prefer}");
        }
    }
}
