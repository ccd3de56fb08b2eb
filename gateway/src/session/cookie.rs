//! The cookies in which browsers store tokens. Scripts cannot read them.

use std::{sync::Arc, time::Duration};

use ::cookie::{Cookie, SameSite};
use http::{Extensions, HeaderMap, HeaderValue, Uri, header, request};
use service_kit::{network::ProxyArgs, public_url::PublicUrl};
use taskey_proto::auth::v1::TokenPair;

use crate::http::headers;

const ACCESS_COOKIE: &str = "taskey_access";
const REFRESH_COOKIE: &str = "taskey_refresh";

/// The prefix of cookies that browsers only accept over TLS and from the host itself (RFC 6265bis, section 4.1.3.2).
/// Such cookies have the path `/`.
const HOST_PREFIX: &str = "__Host-";

/// The prefix of cookies that browsers only accept over TLS (RFC 6265bis, section 4.1.3.1).
const SECURE_PREFIX: &str = "__Secure-";

/// The tokens in the cookies of a request.
#[derive(Clone, Default)]
pub struct Tokens {
    /// The access token. Missing once it has expired, since the browser then deletes the cookie.
    pub access: Option<String>,
    /// The refresh token.
    pub refresh: Option<String>,
}

/// Reads and writes the token cookies of a client. Their names and attributes depend on whether the client uses TLS, and
/// on the path of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCookies {
    is_secure: bool,
    public_url: Option<Arc<PublicUrl>>,
}

/// What all cookies depend on.
#[derive(Clone, Debug, Default)]
pub struct CookieSettings {
    /// Whether all clients are considered to use TLS.
    pub always_secure: bool,
    /// The URL under which browsers reach the gateway. Without it, the host of each request is used.
    pub public_url: Option<Arc<PublicUrl>>,
    /// The proxies whose headers are trusted.
    pub proxies: ProxyArgs,
}

impl CookieSettings {
    /// Reports whether the client of a request uses TLS: to the gateway, to a trusted proxy that reports it, or because
    /// all clients do.
    #[must_use]
    pub fn is_secure(&self, extensions: &Extensions, headers: &HeaderMap) -> bool {
        let is_https = self.public_url.as_ref().is_some_and(|url| url.is_https());
        self.always_secure || is_https || headers::uses_tls(extensions, headers, &self.proxies)
    }

    /// Returns the public URL without a slash at its end, or else the address to which a request was sent.
    #[must_use]
    pub fn gateway_url(&self, uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> String {
        if let Some(url) = &self.public_url {
            return url.without_slash();
        }
        let scheme = if self.is_secure(extensions, headers) { "https" } else { "http" };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // The connection has checked that there is exactly one host.
        format!("{scheme}://{}", uri.authority().map_or(host.unwrap_or_default(), |authority| authority.as_str()))
    }
}

impl TokenCookies {
    /// Returns the cookies for the client of a request.
    #[must_use]
    pub fn for_request(request: &request::Parts, settings: &CookieSettings) -> Self {
        let is_secure = settings.is_secure(&request.extensions, &request.headers);
        Self { is_secure, public_url: settings.public_url.clone() }
    }

    /// Reports whether the client uses TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn path(&self) -> &str {
        self.public_url.as_ref().map_or("/", |url| url.path())
    }

    fn name(&self, name: &str) -> String {
        let prefix = match self.path() {
            _ if !self.is_secure => "",
            "/" => HOST_PREFIX,
            _ => SECURE_PREFIX,
        };
        format!("{prefix}{name}")
    }

    /// Returns the tokens of a request. If a cookie is duplicated, ignores both, since an attacker may have set one.
    /// Cookies of other applications may contain any bytes.
    #[must_use]
    pub fn tokens(&self, headers: &HeaderMap) -> Tokens {
        let lines = headers.get_all(header::COOKIE).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        let all: Vec<_> = lines.flat_map(Cookie::split_parse).filter_map(Result::ok).collect();
        let single = |name: &str| {
            let name = self.name(name);
            let mut found = all.iter().filter(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned());
            found.next().filter(|value| !value.is_empty() && found.next().is_none())
        };
        Tokens { access: single(ACCESS_COOKIE), refresh: single(REFRESH_COOKIE) }
    }

    /// Returns the `set-cookie` headers that store a pair of tokens until they expire.
    #[must_use]
    pub fn store(&self, pair: &TokenPair, now: prost_types::Timestamp) -> [HeaderValue; 2] {
        [
            self.store_access(&pair.access_token, pair.access_expire_time, now),
            self.header(REFRESH_COOKIE, &pair.refresh_token, lifetime(pair.refresh_expire_time, now)),
        ]
    }

    /// Returns the `set-cookie` header that stores an access token until it expires.
    #[must_use]
    pub fn store_access(
        &self,
        access_token: &str,
        expire_time: Option<prost_types::Timestamp>,
        now: prost_types::Timestamp,
    ) -> HeaderValue {
        self.header(ACCESS_COOKIE, access_token, lifetime(expire_time, now))
    }

    /// Returns the `set-cookie` headers that delete the tokens.
    #[must_use]
    pub fn delete(&self) -> [HeaderValue; 2] {
        [ACCESS_COOKIE, REFRESH_COOKIE].map(|name| self.header(name, "", Duration::ZERO))
    }

    fn header(&self, name: &str, value: &str, max_age: Duration) -> HeaderValue {
        let cookie = Cookie::build((self.name(name), value))
            .path(self.path())
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.is_secure)
            .max_age(max_age.try_into().unwrap_or(::cookie::time::Duration::ZERO));
        let mut header = HeaderValue::from_str(&cookie.to_string()).expect("tokens are ASCII");
        header.set_sensitive(true);
        header
    }
}

fn lifetime(expire_time: Option<prost_types::Timestamp>, now: prost_types::Timestamp) -> Duration {
    let seconds = expire_time.map_or(0, |time| time.seconds.saturating_sub(now.seconds));
    Duration::from_secs(seconds.max(0).cast_unsigned())
}
