//! `Prefer: return=minimal` (RFC 7240, section 4.2): omits the body of the response to a write.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use tonic::body::Body;

use crate::{routing::binding::Route, semantics::etag};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

/// Reports whether the client prefers a response without a body, and the route allows that.
#[must_use]
pub fn is_minimal(request: &request::Parts, route: &Route) -> bool {
    may_be_minimal(&request.method, &route.output, route.response_body.as_ref()) && wants_minimal(&request.headers)
}

/// Reports whether the body of the response may be omitted. That is the case for writes that return a resource or an
/// empty message; other calls are made for the sake of their response.
pub(crate) fn may_be_minimal(method: &Method, output: &MessageDescriptor, body: Option<&FieldDescriptor>) -> bool {
    let is_write = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let is_resource = etag::tag_field(output).is_some() && body.is_none();
    is_write && (is_resource || output.fields().len() == 0)
}

fn wants_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences =
        values.flat_map(|value| value.split(',')).filter_map(|preference| preference.split(';').next());
    // The first preference with a given name applies (section 2).
    preferences.find_map(return_preference).is_some_and(|value| value.eq_ignore_ascii_case("minimal"))
}

/// Returns the value of a preference if its name is `return`.
fn return_preference(preference: &str) -> Option<&str> {
    let (name, value) = preference.split_once('=')?;
    name.trim().eq_ignore_ascii_case("return").then(|| value.trim().trim_matches('"'))
}

/// Creates a response without a body.
#[must_use]
pub fn minimal_response() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(MINIMAL));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_return_preference_applies() {
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
