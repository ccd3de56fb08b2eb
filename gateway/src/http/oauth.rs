//! The endpoints of OAuth 2.0: requests are forms, clients can authenticate with HTTP Basic, and errors have the members of
//! RFC 6749, section 5.2.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use http_body_util::Full;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use serde_json::json;
use service_kit::{
    server::request_id::RequestId,
    status::{ApiError, reason_name},
};
use taskey_proto::{auth::v1::AuthorizeDeviceResponse, errors::v1::ErrorReason};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use crate::{
    codec::percent,
    http::{error::HttpError, request::is_form},
    routing::binding::{Forms, Route},
};

/// The RPC whose response contains addresses of the gateway.
const AUTHORIZE_DEVICE: &str = "/taskey.auth.v1.OAuthService/AuthorizeDevice";

/// The `error` of a device that polls too often.
const SLOW_DOWN: &str = "slow_down";

/// The challenge to clients that did not authenticate.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"taskey\", charset=\"UTF-8\"");

/// Builds the request message from the form and the `authorization` header. Unknown parameters are ignored, and parameters
/// without a value count as omitted (RFC 6749, section 3.2).
///
/// # Errors
/// `MALFORMED_REQUEST`, or `CLIENT_INVALID` if the header is invalid.
pub fn to_message(request: &request::Parts, route: &Route, form: &[u8]) -> Result<DynamicMessage, ApiError> {
    if request.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(malformed("parameters must be in the body, not in the query"));
    }
    check_content_type(&request.headers)?;
    let mut message = DynamicMessage::new(route.input.clone());
    let form = std::str::from_utf8(form).map_err(|_| malformed("the form is not UTF-8"))?;
    for pair in form.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text| percent::decode_query(text).map_err(|_| malformed("the form is not percent-encoded UTF-8"));
        set_parameter(&mut message, &decode(name)?, decode(value)?)?;
    }
    if let Some((id, secret)) = basic_credentials(&request.headers)? {
        if message.descriptor().get_field_by_name("client_secret").is_none() {
            return Err(malformed("the clients of this endpoint do not authenticate: send client_id in the form"));
        }
        let has_secret = message.get_field_by_name("client_secret").is_some_and(|value| value.as_str() != Some(""));
        let other_id = message.get_field_by_name("client_id").filter(|value| value.as_str() != Some(""));
        if has_secret || other_id.is_some_and(|other| other.as_str() != Some(&id)) {
            return Err(malformed("the client must authenticate either in the header or in the form"));
        }
        message.set_field_by_name("client_id", Value::String(id));
        message.set_field_by_name("client_secret", Value::String(secret));
    }
    Ok(message)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
    match types[..] {
        [only] if only.to_str().is_ok_and(is_form) => Ok(()),
        _ => Err(malformed("the body must be a form: send content-type: application/x-www-form-urlencoded")),
    }
}

fn set_parameter(message: &mut DynamicMessage, name: &str, value: String) -> Result<(), ApiError> {
    let Some(field) = message.descriptor().get_field_by_name(name).filter(|_| !value.is_empty()) else { return Ok(()) };
    if message.has_field(&field) {
        return Err(malformed("a parameter is duplicated"));
    }
    message.set_field(&field, Value::String(value));
    Ok(())
}

/// Returns the id and the secret in the `authorization` header, each of which is encoded like a form (RFC 6749, section
/// 2.3.1).
fn basic_credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, ApiError> {
    let values: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().collect();
    let value = match values[..] {
        [] => return Ok(None),
        [only] => only.to_str().ok(),
        _ => None,
    };
    let parse = |value: &str| {
        let (scheme, encoded) = value.split_once(' ')?;
        let decoded = BASE64_STANDARD.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        Some((percent::decode_query(id).ok()?, percent::decode_query(secret).ok()?))
    };
    let message = "the authorization header must be Basic, with the id and the secret of the client";
    let invalid = || ApiError::new(Code::Unauthenticated, ErrorReason::ClientInvalid, message);
    value.and_then(parse).ok_or_else(invalid).map(Some)
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message)
}

/// Reports whether the response of an RPC contains addresses of the gateway.
#[must_use]
pub fn returns_addresses(route: &Route) -> bool {
    route.forms == Forms::OAuth && route.rpc.as_str() == AUTHORIZE_DEVICE
}

/// Makes the addresses in the response to a device absolute. A service that does not know the URL of the gateway returns
/// paths.
///
/// # Errors
/// If the response cannot be decoded.
pub fn with_addresses(response: Bytes, gateway: &str) -> Result<Bytes, ApiError> {
    let mut response = AuthorizeDeviceResponse::decode(response).map_err(ApiError::internal)?;
    for uri in [&mut response.verification_uri, &mut response.verification_uri_complete] {
        if uri.starts_with('/') {
            uri.insert_str(0, gateway);
        }
    }
    Ok(response.encode_to_vec().into())
}

/// Creates the response to a request that failed.
#[must_use]
pub fn error_response(error: HttpError, pool: &DescriptorPool, id: &RequestId) -> Response<Body> {
    let name = error_name(error.status());
    let body = json!({"error": name, "error_description": description(error.status())});
    let mut response = error.into_response(pool, id);
    *response.body_mut() = Body::new(Full::new(body.to_string().into()));
    match response.status() {
        // The body says that the client lacks a right, or that the device polls too often (RFC 8628, section 3.5).
        StatusCode::FORBIDDEN => *response.status_mut() = StatusCode::BAD_REQUEST,
        StatusCode::TOO_MANY_REQUESTS if name == SLOW_DOWN => *response.status_mut() = StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED => _ = response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE),
        _ => {}
    }
    response
}

/// Returns the `error` of a status. Those of RFC 6749, section 4.1.2.1, are used where section 5.2 has none.
fn error_name(status: &Status) -> String {
    let info = status.get_details_error_info();
    if let Some(name) = info.as_ref().and_then(|info| info.metadata.get("error")) {
        return name.clone();
    }
    let has_reason = |reason| info.as_ref().is_some_and(|info| info.reason == reason_name(reason));
    let name = match status.code() {
        Code::Unauthenticated => "invalid_client",
        Code::PermissionDenied if has_reason(ErrorReason::ScopeMissing) => "unauthorized_client",
        Code::InvalidArgument | Code::Cancelled => "invalid_request",
        Code::ResourceExhausted if has_reason(ErrorReason::MessageTooLarge) => "invalid_request",
        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => "temporarily_unavailable",
        _ => "server_error",
    };
    name.to_owned()
}

/// Returns the message with the characters that `error_description` can have.
fn description(status: &Status) -> String {
    let is_allowed = |c: &char| matches!(c, '\x20'..='\x7e') && !matches!(c, '"' | '\\');
    status.message().chars().filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(values: &[&str]) -> Result<Option<(String, String)>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().expect("a header"));
        }
        basic_credentials(&headers).map_err(|error| error.code())
    }

    #[test]
    fn basic_credentials_are_decoded_like_a_form() {
        let encoded = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let decoded = |id: &str, secret: &str| Ok(Some((id.to_owned(), secret.to_owned())));
        assert_eq!(credentials(&[]), Ok(None));
        assert_eq!(credentials(&[&encoded("a:b")]), decoded("a", "b"));
        assert_eq!(credentials(&["basic YTpiOmM="]), decoded("a", "b:c"));
        assert_eq!(credentials(&[&encoded("a%3Ab:+%2B")]), decoded("a:b", " +"));
    }

    #[test]
    fn other_authorization_headers_are_refused() {
        for value in ["Bearer x", "Basic", "Basic !", "Basic YWI=", "Basic JTpi"] {
            assert_eq!(credentials(&[value]), Err(Code::Unauthenticated), "{value}");
        }
        assert_eq!(credentials(&["Basic YTpi", "Basic YTpi"]), Err(Code::Unauthenticated));
    }

    #[test]
    fn descriptions_have_only_the_characters_that_are_allowed() {
        assert_eq!(description(&Status::unknown("`a` \"b\" \\ ä\n")), "`a` b  ");
    }
}
