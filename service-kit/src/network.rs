//! Clients: how they are determined behind proxies, and how their addresses are grouped for limits.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Once,
};

use clap::Args;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

pub mod destination;

/// The header in which each proxy appends the address of its client.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which a gateway sends the user agent of the client.
pub const FORWARDED_USER_AGENT: HeaderName = HeaderName::from_static("x-forwarded-user-agent");

/// The header in which a proxy sends the protocol of the connection to its client.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The header in which a proxy that changes `host` sends the one of its client.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Returns the address under which a client is counted. An IPv6 client usually has a whole /64 network, so only the
/// first 64 bits count. An IPv4-mapped IPv6 address counts as its IPv4 address.
#[must_use]
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Returns the address at which the same machine reaches a server that listens on this address.
#[must_use]
pub fn local_target(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// The trusted proxies.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct ProxyArgs {
    /// Comma-separated addresses or networks, such as 10.0.0.0/8, of proxies whose `x-forwarded-for`,
    /// `x-forwarded-proto` and `x-forwarded-host` headers are trusted. Limits then apply to the clients of a proxy, not to the proxy
    #[arg(long, env = "TASKEY_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = text.parse().map(|address: IpAddr| IpNet::from(address));
    text.parse().or(address).map_err(|_| "expected an address, or a network such as 10.0.0.0/8")
}

/// The client of a request. Servers add it to the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address of the client.
    pub address: IpAddr,
    /// Whether the address is that of a trusted proxy, because the proxy has not sent the address of its client.
    pub is_proxy: bool,
    /// Whether a trusted proxy has sent the address.
    was_forwarded: bool,
}

impl ProxyArgs {
    /// Reports whether an address belongs to a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Returns the client of a request. `peer` is the address that has connected.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        self.resolve(peer, self.trusts(peer), headers)
    }

    /// Returns the client of a request from a peer that is trusted as a proxy for another reason than its address,
    /// such as a service token.
    #[must_use]
    pub fn client_of_trusted_peer(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        self.resolve(peer, true, headers)
    }

    /// Each proxy appends the address of its client to `x-forwarded-for`, so the header is read from the end, as long
    /// as trusted proxies have written it. Anyone could have written the entries before, so these are not parsed.
    fn resolve(&self, peer: IpAddr, is_trusted: bool, headers: &HeaderMap) -> Client {
        let mut client = Client { address: peer.to_canonical(), is_proxy: is_trusted, was_forwarded: false };
        let lines = headers.get_all(&FORWARDED_FOR).iter().rev();
        for entry in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            if !client.is_proxy {
                break;
            }
            let Some(address) = address(entry) else {
                warn_about_invalid_address(client.address);
                break;
            };
            client = Client { address, is_proxy: self.trusts(address), was_forwarded: true };
        }
        client
    }
}

/// Logs the first invalid address that a trusted proxy has sent. All its clients may share one address.
fn warn_about_invalid_address(proxy: IpAddr) {
    static WARNING: Once = Once::new();
    WARNING.call_once(|| {
        tracing::warn!(%proxy, "a trusted proxy does not send a valid client address in x-forwarded-for");
    });
}

impl Client {
    /// Reports whether the client has connected to a trusted proxy instead of this server.
    #[must_use]
    pub fn is_behind_proxy(&self) -> bool {
        self.was_forwarded && !self.is_proxy
    }

    /// Reports whether the client uses TLS, according to the `x-forwarded-proto` header of the trusted proxies. Without
    /// the header, the client uses TLS if this connection does. The first entry counts, even if an untrusted proxy or the
    /// client has sent it: it only decides about the cookies of this client.
    #[must_use]
    pub fn uses_tls(&self, headers: &HeaderMap, connection_uses_tls: bool) -> bool {
        let protocol = self.first_entry(headers, &FORWARDED_PROTO);
        protocol.map_or(connection_uses_tls, |protocol| protocol.eq_ignore_ascii_case(b"https"))
    }

    /// Returns the host in the request of the client, according to the `x-forwarded-host` header of the trusted
    /// proxies. The first entry counts, as for [`uses_tls`](Self::uses_tls).
    #[must_use]
    pub fn forwarded_host<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        self.first_entry(headers, &FORWARDED_HOST).and_then(|host| str::from_utf8(host).ok())
    }

    /// Returns the first entry of a list that proxies write. Without a trusted proxy, there is none.
    fn first_entry<'a>(&self, headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
        let has_proxy = self.is_proxy || self.was_forwarded;
        let line = headers.get(name).filter(|_| has_proxy)?;
        line.as_bytes().split(|byte| *byte == b',').next().map(unquote)
    }
}

/// Parses an address as proxies write it: with or without a port, brackets, a zone or quotation marks.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(unquote(entry)).ok()?;
    let without_port = text.parse().ok().map(|address: SocketAddr| address.ip());
    let parse = || {
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match text.split_once('%') {
            Some((address, _zone)) => address.parse().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        }
    };
    without_port.or_else(parse).map(|address: IpAddr| address.to_canonical())
}

/// Removes whitespace and quotation marks.
fn unquote(entry: &[u8]) -> &[u8] {
    let entry = entry.trim_ascii();
    entry.strip_prefix(b"\"").and_then(|entry| entry.strip_suffix(b"\"")).unwrap_or(entry)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        let value = |line: &&[u8]| HeaderValue::from_bytes(line).expect("a header value");
        lines.iter().map(|line| (name.clone(), value(line))).collect()
    }

    fn proxies() -> ProxyArgs {
        let trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"].map(|text| network(text).expect(text));
        ProxyArgs { trusted_proxies: trusted_proxies.to_vec() }
    }

    fn client_of_bytes(peer: &str, forwarded_for: &[&[u8]]) -> String {
        proxies().client(ip(peer), &headers(&FORWARDED_FOR, forwarded_for)).address.to_string()
    }

    fn client(peer: &str, forwarded_for: &[&str]) -> String {
        client_of_bytes(peer, &forwarded_for.iter().map(|line| line.as_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn ipv4_address_and_its_ipv6_mapping_count_as_one() {
        assert_eq!(rate_limit_key(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_ne!(rate_limit_key(ip("192.0.2.1")), rate_limit_key(ip("192.0.2.2")));
    }

    #[test]
    fn ipv6_addresses_count_by_their_first_64_bits() {
        assert_eq!(rate_limit_key(ip("2001:db8::1")), rate_limit_key(ip("2001:db8::ffff:ffff:ffff:ffff")));
        assert_ne!(rate_limit_key(ip("2001:db8::1")), rate_limit_key(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn only_trusted_proxies_can_set_the_client_address() {
        assert_eq!(client("198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client("10.1.2.3", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("::ffff:10.1.2.3", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("2001:db8:1::5", &["2001:db8:2::5"]), "2001:db8:2::5");
    }

    #[test]
    fn entries_that_the_client_sent_are_ignored() {
        assert_eq!(client("10.1.2.3", &["1.1.1.1, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["10.9.9.9", "203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["10.9.9.9, 203.0.113.7, 192.0.2.1"]), "203.0.113.7");
    }

    #[test]
    fn entries_before_an_invalid_one_are_ignored() {
        assert_eq!(client("10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["203.0.113.7, unknown"]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["203.0.113.7, unknown, 10.4.4.4"]), "10.4.4.4");
        assert_eq!(client("10.1.2.3", &["203.0.113.7, "]), "10.1.2.3");
    }

    #[test]
    fn bytes_that_the_client_sent_do_not_hide_its_address() {
        for sent in [&b"\xfc"[..], b"\xc3\xbc", b"unknown", b"_hidden", b"\"a,b\"", b"\"", b",,,", b"\t", b""] {
            let one_line = [sent, b", 203.0.113.7, 10.4.4.4"].concat();
            assert_eq!(client_of_bytes("10.1.2.3", &[&one_line]), "203.0.113.7", "{sent:?}");
            assert_eq!(client_of_bytes("10.1.2.3", &[sent, b"203.0.113.7", b"10.4.4.4"]), "203.0.113.7", "{sent:?}");
        }
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (entry, address) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("\t\"203.0.113.7:4711\" ", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:2::5", "2001:db8:2::5"),
            ("[2001:db8:2::5]", "2001:db8:2::5"),
            ("\"[2001:db8:2::5]:4711\"", "2001:db8:2::5"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%2]", "fe80::1"),
        ] {
            assert_eq!(client("10.1.2.3", &[entry]), address, "{entry}");
        }
    }

    #[test]
    fn a_peer_that_is_trusted_for_another_reason_sends_the_client_address() {
        let headers = headers(&FORWARDED_FOR, &[b"198.51.100.9, 203.0.113.7"]);
        let client = proxies().client_of_trusted_peer(ip("198.51.100.1"), &headers);
        assert_eq!((client.address, client.is_proxy), (ip("203.0.113.7"), false));
    }

    #[test]
    fn client_without_an_address_of_its_own_is_a_proxy() {
        let is_proxy =
            |peer: &str, lines: &[&[u8]]| proxies().client(ip(peer), &headers(&FORWARDED_FOR, lines)).is_proxy;
        assert!(
            is_proxy("10.1.2.3", &[]) && is_proxy("10.1.2.3", &[b"unknown"]) && is_proxy("10.1.2.3", &[b"10.4.4.4"])
        );
        assert!(!is_proxy("10.1.2.3", &[b"203.0.113.7"]) && !is_proxy("203.0.113.7", &[b"10.1.2.3"]));
    }

    #[test]
    fn first_protocol_is_that_of_the_client() {
        let uses_tls = |peer: &str, forwarded_for: &[&[u8]], protocols: &[&[u8]]| {
            let client = proxies().client(ip(peer), &headers(&FORWARDED_FOR, forwarded_for));
            client.uses_tls(&headers(&FORWARDED_PROTO, protocols), false)
        };
        for protocols in [&[&b"https"[..]][..], &[b"HTTPS"], &[b" Https "], &[b"https, http"], &[b"https", b"http"]] {
            assert!(uses_tls("10.1.2.3", &[], protocols), "{protocols:?}");
            assert!(uses_tls("10.1.2.3", &[b"203.0.113.7"], protocols), "{protocols:?}");
            assert!(uses_tls("10.1.2.3", &[b"203.0.113.7, 10.4.4.4"], protocols), "{protocols:?}");
            assert!(!uses_tls("203.0.113.7", &[], protocols), "{protocols:?}");
        }
        for protocols in [&[][..], &[&b"http"[..]], &[b"\xfc"], &[b"httpsx"], &[b"http, https"]] {
            assert!(!uses_tls("10.1.2.3", &[], protocols), "{protocols:?}");
        }
    }

    #[test]
    fn first_host_of_a_trusted_proxy_is_that_of_the_client() {
        let host = |peer: &str, lines: &[&[u8]]| {
            let headers = headers(&FORWARDED_HOST, lines);
            proxies().client(ip(peer), &headers).forwarded_host(&headers).map(str::to_owned)
        };
        for lines in [&[&b"a.example:8443"[..]][..], &[b" a.example:8443 , b.example"], &[b"a.example:8443", b"b"]] {
            assert_eq!(host("10.1.2.3", lines).as_deref(), Some("a.example:8443"), "{lines:?}");
            assert_eq!(host("203.0.113.7", lines), None, "{lines:?}");
        }
        assert_eq!(host("10.1.2.3", &[]), None);
        assert_eq!(host("10.1.2.3", &[b"\xfc"]), None);
    }

    #[test]
    fn connection_counts_if_no_trusted_proxy_sends_the_protocol() {
        let uses_tls = |peer: &str, protocols: &[&[u8]]| {
            let client = proxies().client(ip(peer), &HeaderMap::new());
            client.uses_tls(&headers(&FORWARDED_PROTO, protocols), true)
        };
        assert!(uses_tls("10.1.2.3", &[]) && uses_tls("203.0.113.7", &[]) && uses_tls("203.0.113.7", &[b"http"]));
        assert!(!uses_tls("10.1.2.3", &[b"http"]), "the proxy uses TLS, but its client does not");
    }

    #[test]
    fn addresses_and_networks_are_parsed() {
        for valid in ["10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32"] {
            assert!(network(valid).is_ok(), "{valid}");
        }
        for invalid in ["", "10.0.0.0/33", "proxy", "10.0.0", "10.0.0.0/8 "] {
            assert!(network(invalid).is_err(), "{invalid:?}");
        }
    }
}
