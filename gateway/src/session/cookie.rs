//! The cookies in which a browser keeps tokens that no script ever sees.

use std::time::Duration;

use ::cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header, request};
use service_kit::network::ProxyArgs;
use taskey_proto::auth::v1::TokenPair;
use tonic::transport::server::TcpConnectInfo;

const ACCESS: &str = "taskey_access";
const REFRESH: &str = "taskey_refresh";

/// Before the names of cookies that browsers take over TLS alone, and from the host itself alone (RFC 6265bis,
/// section 4.1.3.2).
const HOST: &str = "__Host-";

/// What a proxy says of the connection to the client.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The tokens that a request bears in cookies.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Gone when it has expired, for the browser forgets it then.
    pub access: Option<String>,
    /// Good for new ones.
    pub refresh: Option<String>,
}

/// How cookies are named and marked: as those of a client that came over TLS, or of one that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jar {
    secure: bool,
}

impl Jar {
    /// The client came over TLS if a trusted proxy says so, or if all do.
    #[must_use]
    pub fn of(request: &request::Parts, proxies: &ProxyArgs, always_secure: bool) -> Self {
        let peer = request.extensions.get::<TcpConnectInfo>().and_then(|peer| peer.remote_addr);
        let believed = peer.is_some_and(|peer| proxies.trusts(peer.ip()));
        let https = request.headers.get(FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes() == b"https");
        Self { secure: always_secure || (believed && https) }
    }

    /// Whether the client came over TLS.
    #[must_use]
    pub fn is_secure(self) -> bool {
        self.secure
    }

    fn name(self, name: &str) -> String {
        if self.secure { format!("{HOST}{name}") } else { name.to_owned() }
    }

    /// The tokens of a request. A name that comes twice is nobody's: somebody else may have set one of them.
    #[must_use]
    pub fn tokens(self, headers: &HeaderMap) -> Tokens {
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Cookie<'_>> = values.flat_map(Cookie::split_parse).filter_map(Result::ok).collect();
        let one = |name: &str| {
            let name = self.name(name);
            let mut found = all.iter().filter(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned());
            found.next().filter(|value| !value.is_empty() && found.next().is_none())
        };
        Tokens { access: one(ACCESS), refresh: one(REFRESH) }
    }

    /// The headers that put a pair of tokens into cookies, for as long as each is good.
    #[must_use]
    pub fn keep(self, pair: &TokenPair, now: prost_types::Timestamp) -> [HeaderValue; 2] {
        let left = |until: Option<prost_types::Timestamp>| {
            let seconds = until.map_or(0, |until| until.seconds.saturating_sub(now.seconds));
            Duration::from_secs(seconds.max(0).cast_unsigned())
        };
        [
            self.header(ACCESS, &pair.access_token, left(pair.access_expire_time)),
            self.header(REFRESH, &pair.refresh_token, left(pair.refresh_expire_time)),
        ]
    }

    /// The headers that make a browser forget the tokens.
    #[must_use]
    pub fn forget(self) -> [HeaderValue; 2] {
        [ACCESS, REFRESH].map(|name| self.header(name, "", Duration::ZERO))
    }

    fn header(self, name: &str, value: &str, life: Duration) -> HeaderValue {
        let cookie = Cookie::build((self.name(name), value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.secure)
            .max_age(life.try_into().unwrap_or(::cookie::time::Duration::ZERO));
        let mut header = HeaderValue::from_str(&cookie.to_string()).expect("tokens are ASCII");
        header.set_sensitive(true);
        header
    }
}
