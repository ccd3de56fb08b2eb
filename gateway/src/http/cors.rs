//! CORS: lets pages of other origins call the gateway, without cookies (Fetch standard, section 3.2).

use std::{str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;
use url::Url;

/// How long browsers may cache a preflight response.
const MAX_AGE: Duration = Duration::from_secs(3600);

const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Request headers that the gateway reads and that need permission.
const ALLOWED_HEADERS: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("request-timeout"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Response headers that scripts may read.
const EXPOSED_HEADERS: [HeaderName; 9] = [
    header::ETAG,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("idempotent-replayed"),
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// The origin of a page, exactly as browsers serialize it, since it is compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        // Browsers omit the default port and serialize host names in lower case and in ASCII.
        let is_exact = url.is_some_and(|url| url.origin().ascii_serialization() == text) && !text.contains('*');
        let value = HeaderValue::from_str(text).ok().filter(|_| is_exact);
        value.map(Self).ok_or(
            "expected one origin as browsers send it, such as https://app.example.org: \
             no path, no wildcard, no default port, lower case",
        )
    }
}

/// Returns a layer that allows requests from these origins, or `None` if there are none.
#[must_use]
pub fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins.iter().map(|origin| origin.0.clone()).collect::<Vec<_>>())
        .allow_methods(METHODS)
        .allow_headers(ALLOWED_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
        .max_age(MAX_AGE)
        .vary([header::ORIGIN]);
    Some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_as_browsers_send_them_are_accepted() {
        for origin in ["https://app.example.org", "http://localhost:5173", "https://[::1]:8443", "http://192.0.2.1"] {
            assert!(origin.parse::<Origin>().is_ok(), "{origin}");
        }
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused() {
        for origin in [
            "",
            "*",
            "null",
            "app.example.org",
            "https://",
            "https://*.example.org",
            "https://app.example.org/",
            "https://app.example.org/path",
            "https://app.example.org?q",
            "https://app.example.org:443",
            "http://app.example.org:80",
            "https://App.example.org",
            "HTTPS://app.example.org",
            "https://user@app.example.org",
            "https://b\u{fc}cher.example",
            "https://a.example,https://b.example",
            "https://a.example https://b.example",
            " https://app.example.org",
            "ftp://app.example.org",
            "file:///",
        ] {
            assert!(origin.parse::<Origin>().is_err(), "{origin:?}");
        }
    }
}
