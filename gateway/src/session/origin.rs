//! Recognizes requests that a page of another origin makes with the cookies of a user.

use http::{request, uri::Authority};
use tonic::transport::server::TcpConnectInfo;
use url::Url;

use crate::session::cookie::{CookieSettings, TokenCookies};

/// Reports whether a page of this origin makes the request, according to `Sec-Fetch-Site` (Fetch Metadata, section
/// 2.3) or, for older browsers, `Origin`. A request with neither header is not considered to be from this origin.
#[must_use]
pub fn is_same_origin(request: &request::Parts, cookies: &TokenCookies, settings: &CookieSettings) -> bool {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = header("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = header("origin") else { return false };
    if let Some(public_url) = &settings.public_url {
        return origin == public_url.origin();
    }
    // HTTP/2 requests have `:authority` instead of `host`.
    let host = request.uri.authority().map(Authority::as_str).or_else(|| header("host"));
    match (origin.split_once("://"), forwarded_host(request, settings).or(host)) {
        (Some((scheme, _)), Some(host)) => {
            is_origin_of(origin, scheme, host) && (scheme == "https" || !cookies.is_secure())
        }
        _ => false,
    }
}

/// Returns the host that the client has sent to the first trusted proxy, if the proxies send it.
fn forwarded_host<'a>(request: &'a request::Parts, settings: &CookieSettings) -> Option<&'a str> {
    let peer = request.extensions.get::<TcpConnectInfo>()?.remote_addr?;
    settings.proxies.client(peer.ip(), &request.headers).forwarded_host(&request.headers)
}

/// Reports whether a browser serializes the origin of this scheme and host as `origin`.
fn is_origin_of(origin: &str, scheme: &str, host: &str) -> bool {
    Url::parse(&format!("{scheme}://{host}")).is_ok_and(|url| url.origin().ascii_serialization() == origin)
}
