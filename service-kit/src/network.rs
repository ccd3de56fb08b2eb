//! Client addresses: how they are read behind proxies, and how they are grouped for rate limits.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::Args;
use ipnet::IpNet;

/// Returns the address under which a client is counted. An IPv6 client usually has a whole /64 network, so only the
/// first 64 bits count. An IPv4-mapped IPv6 address counts as its IPv4 address.
#[must_use]
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The trusted proxies.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct ProxyArgs {
    /// Comma-separated addresses or networks, such as 10.0.0.0/8, of proxies whose `x-forwarded-for` header is trusted
    #[arg(long, env = "TASKEY_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = text.parse().map(|address: IpAddr| IpNet::from(address));
    text.parse().or(address).map_err(|_| "expected an address, or a network such as 10.0.0.0/8")
}

impl ProxyArgs {
    /// Reports whether an address belongs to a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Returns the address of the client behind the trusted proxies. `peer` is the address that has connected. Each
    /// proxy appends the address of its caller to `x-forwarded-for`, so the header is read from the end, as long as
    /// trusted proxies have written it. Anyone could have written the entries before.
    #[must_use]
    pub fn client<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for caller in forwarded_for.flat_map(|header| header.split(',')).rev() {
            if !self.trusts(client) {
                break;
            }
            let Some(caller) = address(caller.trim()) else { break };
            client = caller;
        }
        client
    }
}

/// Parses an address as proxies write it: some add a port.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn client(peer: &str, forwarded_for: &[&str]) -> String {
        let trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"].map(|text| network(text).expect(text));
        let proxies = ProxyArgs { trusted_proxies: trusted_proxies.to_vec() };
        proxies.client(ip(peer), forwarded_for.iter().copied()).to_string()
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
        assert_eq!(client("10.1.2.3", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["[2001:db8:2::5]:4711"]), "2001:db8:2::5");
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
