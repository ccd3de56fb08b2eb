//! Checks the host of requests. Servers that disagree about the host of a request can be misused to reach another
//! application, or to fill a cache with its responses.

use std::net::Ipv6Addr;

use http::{HeaderValue, Request, Version, header, uri::Authority};

/// Reports whether the host of a request is valid: an HTTP/1.1 request has exactly one `host` header (RFC 9112, section
/// 3.2), and that of an HTTP/2 request names the same host as `:authority` (RFC 9113, section 8.3.1).
pub(super) fn has_valid_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // HTTP/1.0 does not require the header, and HTTP/2 replaces it by `:authority`.
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) if request.version() == Version::HTTP_2 => is_same(host, request),
        (Some(host), None) => parse(host).is_some(),
        (Some(_), Some(_)) => false,
    }
}

/// Reports whether a host is that of `:authority`, if the request has one.
fn is_same<B>(host: &HeaderValue, request: &Request<B>) -> bool {
    let default_port = if request.uri().scheme_str() == Some("https") { 443 } else { 80 };
    let Some((host, port)) = parse(host) else { return false };
    let Some(authority) = request.uri().authority() else { return true };
    let authority_port = authority.port_u16().unwrap_or(default_port);
    authority.host().eq_ignore_ascii_case(host.host()) && authority_port == port.unwrap_or(default_port)
}

/// Parses `uri-host [ ":" port ]` (RFC 9110, section 7.2). A host must not be empty in an `http` URI (section 4.2.1).
fn parse(value: &HeaderValue) -> Option<(Authority, Option<u16>)> {
    let authority = Authority::try_from(value.as_bytes()).ok()?;
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
        "" | ":" => None,
        port => Some(port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?),
    };
    let port = port.map(str::parse).transpose().ok()?;
    let is_valid = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([']', '@']),
    };
    is_valid.then_some((authority, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(version: Version, target: &str, hosts: &[&[u8]]) -> bool {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        has_valid_host(&request.body(()).expect("a request"))
    }

    #[test]
    fn http1_request_has_exactly_one_valid_host() {
        for host in
            ["x", "x:80", "x:", "X.example.org", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a_b-c", "xn--bcher-kva"]
        {
            assert!(is_valid(Version::HTTP_11, "/", &[host.as_bytes()]), "{host}");
        }
        for host in [
            "", ":80", "a b", "x/y", "http://x", "user@x", "x@x", "x:y", "x:+80", "x:65536", "x:80:80", "[::1", "::1",
            "[x]", "x]", "x,x y", "x?y", "x#y", "\u{fc}",
        ] {
            for version in [Version::HTTP_11, Version::HTTP_10] {
                assert!(!is_valid(version, "/", &[host.as_bytes()]), "{host}");
            }
        }
        assert!(!is_valid(Version::HTTP_11, "/", &[]) && !is_valid(Version::HTTP_11, "/", &[b"x", b"x"]));
        assert!(is_valid(Version::HTTP_10, "/", &[]) && !is_valid(Version::HTTP_10, "/", &[b"x", b"x"]));
        assert!(!is_valid(Version::HTTP_11, "http://x/", &[]) && is_valid(Version::HTTP_11, "http://x/", &[b"y"]));
    }

    #[test]
    fn http2_host_is_that_of_the_authority() {
        let is_valid = |target, hosts: &[&[u8]]| is_valid(Version::HTTP_2, target, hosts);
        assert!(is_valid("http://x/", &[]) && is_valid("/", &[]) && is_valid("/", &[b"x"]));
        for (target, host) in
            [("http://x/", "X"), ("http://x/", "x:80"), ("https://x:443/", "x"), ("http://[::1]:1/", "[::1]:1")]
        {
            assert!(is_valid(target, &[host.as_bytes()]), "{target} {host}");
        }
        for (target, host) in [("http://x/", "y"), ("http://x/", "x:81"), ("https://x/", "x:80"), ("http://x/", "")] {
            assert!(!is_valid(target, &[host.as_bytes()]), "{target} {host}");
        }
        assert!(!is_valid("http://x/", &[b"x", b"x"]));
    }
}
