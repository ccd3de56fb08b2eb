//! Addresses of the internet: for whom a proxy calls, and what counts as one and the same.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::Args;
use ipnet::IpNet;

/// What an address counts as. Whoever has one address of IPv6 has the 2^64 beside it too. An address of IPv4 is the same
/// however the listener sees it.
#[must_use]
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Which proxies are believed.
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
    /// Whether this address is a trusted proxy's.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The client behind trusted proxies, of which `nearest` calls us. Each proxy adds at the end of `x-forwarded-for`
    /// who called it, so it is read from there for as long as a trusted proxy has written it; what stands before could
    /// have been written by anyone.
    #[must_use]
    pub fn client<'a>(&self, nearest: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = nearest.to_canonical();
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

/// An address as proxies write it, some with a port.
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

    fn client(nearest: &str, forwarded_for: &[&str]) -> String {
        let trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"].map(|text| network(text).expect("good"));
        let proxies = ProxyArgs { trusted_proxies: trusted_proxies.to_vec() };
        proxies.client(ip(nearest), forwarded_for.iter().copied()).to_string()
    }

    #[test]
    fn an_address_of_ipv4_counts_alone_in_both_its_forms() {
        assert_eq!(rate_limit_key(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_ne!(rate_limit_key(ip("192.0.2.1")), rate_limit_key(ip("192.0.2.2")));
    }

    #[test]
    fn addresses_of_ipv6_count_by_their_first_64_bits() {
        assert_eq!(rate_limit_key(ip("2001:db8::1")), rate_limit_key(ip("2001:db8::ffff:ffff:ffff:ffff")));
        assert_ne!(rate_limit_key(ip("2001:db8::1")), rate_limit_key(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn nobody_is_believed_but_trusted_proxies() {
        assert_eq!(client("198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client("10.1.2.3", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("::ffff:10.1.2.3", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("2001:db8:1::5", &["2001:db8:2::5"]), "2001:db8:2::5");
    }

    #[test]
    fn what_the_client_claims_of_itself_is_not_believed() {
        assert_eq!(client("10.1.2.3", &["1.1.1.1, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["10.9.9.9", "203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["10.9.9.9, 203.0.113.7, 192.0.2.1"]), "203.0.113.7");
    }

    #[test]
    fn what_cannot_be_read_leaves_the_last_that_could() {
        assert_eq!(client("10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["203.0.113.7, unknown"]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["203.0.113.7, unknown, 10.4.4.4"]), "10.4.4.4");
        assert_eq!(client("10.1.2.3", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &["[2001:db8:2::5]:4711"]), "2001:db8:2::5");
    }

    #[test]
    fn a_network_is_written_as_usual() {
        for good in ["10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32"] {
            assert!(network(good).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "proxy", "10.0.0", "10.0.0.0/8 "] {
            assert!(network(bad).is_err(), "{bad:?}");
        }
    }
}
