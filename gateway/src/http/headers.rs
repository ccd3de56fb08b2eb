//! Converts the headers of an HTTP request to the metadata and the deadline of the call.

use std::{net::IpAddr, time::Duration};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, header, request};
use service_kit::{
    auth::credential::SERVICE_TOKEN_HEADER,
    network::{FORWARDED_FOR, FORWARDED_USER_AGENT, ProxyArgs},
    server::request_id::{REQUEST_ID, RequestId},
    status::ApiError,
    tls::TlsInfo,
    update_mask::DERIVED_MASK,
};
use tonic::transport::server::TcpConnectInfo;

use crate::{backend::Backend, codec::violation::FieldViolation};

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// Headers that are forwarded unchanged. The service refuses duplicate `authorization` headers.
const FORWARDED_HEADERS: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Returns the metadata of the call. Other headers are not forwarded, so that a client cannot pretend to be the
/// gateway.
#[must_use]
pub fn metadata(request: &request::Parts, id: &RequestId, backend: &Backend) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for name in FORWARDED_HEADERS {
        for value in request.headers.get_all(&name) {
            let mut value = value.clone();
            value.set_sensitive(name == header::AUTHORIZATION);
            metadata.append(&name, value);
        }
    }
    metadata.insert(REQUEST_ID, id.as_header().clone());
    if let Some(token) = &backend.peer_token {
        metadata.insert(SERVICE_TOKEN_HEADER, token.clone());
    }
    if let Some(forwarding) = &backend.forwarding {
        if let Some(token) = &forwarding.token {
            metadata.insert(SERVICE_TOKEN_HEADER, token.header());
        }
        if let Some(address) = client_address(request, &forwarding.proxies) {
            metadata.insert(FORWARDED_FOR, address);
        }
        // Even if it is empty: the user agent of the gateway is not that of the client.
        let user_agent = request.headers.get(header::USER_AGENT).cloned();
        metadata.insert(FORWARDED_USER_AGENT, user_agent.unwrap_or(HeaderValue::from_static("")));
    }
    metadata
}

/// Headers that clients may not set, or that concern their connection to the gateway only.
const DROPPED_HEADERS: [HeaderName; 9] = [
    HeaderName::from_static(SERVICE_TOKEN_HEADER),
    FORWARDED_FOR,
    FORWARDED_USER_AGENT,
    DERIVED_MASK,
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::COOKIE,
];

/// Returns the metadata of a gRPC call: all headers of the client except those that the gateway sets or drops.
#[must_use]
pub fn passthrough_metadata(request: &request::Parts, id: &RequestId, backend: &Backend) -> HeaderMap {
    let gateway_headers = metadata(request, id, backend);
    let mut all = gateway_headers.clone();
    for (name, value) in &request.headers {
        if !gateway_headers.contains_key(name) && !DROPPED_HEADERS.contains(name) {
            all.append(name, value.clone());
        }
    }
    all
}

fn client_address(request: &request::Parts, proxies: &ProxyArgs) -> Option<HeaderValue> {
    HeaderValue::from_str(&client_ip(&request.extensions, &request.headers, proxies)?.to_string()).ok()
}

/// Returns the address of the client of a request.
#[must_use]
pub fn client_ip(extensions: &Extensions, headers: &HeaderMap, proxies: &ProxyArgs) -> Option<IpAddr> {
    let peer = extensions.get::<TcpConnectInfo>()?.remote_addr?.ip();
    Some(proxies.client(peer, headers).address)
}

/// Reports whether the client of a request uses TLS: to the gateway, or to a trusted proxy that reports it.
#[must_use]
pub fn uses_tls(extensions: &Extensions, headers: &HeaderMap, proxies: &ProxyArgs) -> bool {
    let connection_uses_tls = extensions.get::<TlsInfo>().is_some();
    let peer = extensions.get::<TcpConnectInfo>().and_then(|peer| peer.remote_addr);
    peer.map_or(connection_uses_tls, |peer| proxies.client(peer.ip(), headers).uses_tls(headers, connection_uses_tls))
}

/// Returns the timeout of the call: `Request-Timeout` in seconds, but at most `limit`.
///
/// # Errors
/// If it is not a positive decimal number.
pub fn timeout(headers: &HeaderMap, limit: Duration) -> Result<Duration, ApiError> {
    let values: Vec<_> = headers.get_all(REQUEST_TIMEOUT).iter().collect();
    let requested = match values[..] {
        [] => return Ok(limit),
        [value] => value.to_str().ok().and_then(parse_seconds),
        _ => None,
    };
    let violation = || FieldViolation::new("must be one positive number of seconds").in_field(REQUEST_TIMEOUT.as_str());
    requested.map(|requested| requested.min(limit)).ok_or_else(|| violation().into())
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let is_decimal = text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = text.parse().ok().filter(|seconds| is_decimal && *seconds > 0.0)?;
    // A number that overflows a duration is longer than any limit.
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn read(values: &[&'static str]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_TIMEOUT, HeaderValue::from_static(value));
        }
        timeout(&headers, LIMIT).ok()
    }

    #[test]
    fn shorter_timeout_applies() {
        assert_eq!(read(&[]), Some(LIMIT));
        assert_eq!(read(&["2"]), Some(Duration::from_secs(2)));
        assert_eq!(read(&["0.25"]), Some(Duration::from_millis(250)));
        assert_eq!(read(&["60"]), Some(LIMIT));
        assert_eq!(read(&["99999999999999999999999999"]), Some(LIMIT));
    }

    #[test]
    fn timeouts_that_are_not_positive_numbers_are_refused() {
        for value in ["", "0", "0.0", "-1", "+1", "1s", "1e3", "inf", "NaN", ".5", "1.2.3", " "] {
            assert_eq!(read(&[value]), None, "{value:?}");
        }
        assert_eq!(read(&["1", "2"]), None);
    }
}
