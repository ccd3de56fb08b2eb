//! Servers that users name, such as the receivers of webhooks. A service connects only to public addresses, so that users
//! cannot reach the network of the operator through it (server-side request forgery).

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use tokio::{sync::Semaphore, task::spawn_blocking};
use url::{Host, Url};
use uuid::Uuid;

use crate::turns::TurnQueue;

/// Maximum number of names that are resolved at the same time, in total and for an account. Each occupies a thread until
/// its name servers have answered or the system gives up, even if nobody waits for it any more.
const MAX_LOOKUPS: usize = 64;
const MAX_LOOKUPS_PER_ACCOUNT: usize = 4;

/// IPv4 networks and the IPv6 networks within `2000::/3` that are not public (IANA special-purpose address registries).
static SPECIAL_NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let networks = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    ];
    networks.map(|network| network.parse().expect("a network")).to_vec()
});

/// Reports whether an address is public. An IPv4-mapped IPv6 address counts as its IPv4 address. IPv6 addresses that contain
/// IPv4 addresses in other ways (NAT64, 6to4, Teredo) are not public.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_global_unicast = |address: Ipv6Addr| address.segments()[0] & 0xe000 == 0x2000;
    let is_possible = match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => is_global_unicast(address),
    };
    is_possible && !SPECIAL_NETWORKS.iter().any(|network| network.contains(&address))
}

/// Servers that may have other than public addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedDestination {
    /// The addresses of a network.
    Network(IpNet),
    /// The host with this name, whatever its addresses are.
    Host(String),
}

impl FromStr for AllowedDestination {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = || text.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
        if let Ok(network) = text.parse().or_else(|_| address()) {
            return Ok(Self::Network(network));
        }
        let message = "expected a network such as 10.0.0.0/8, an address, or the name of a host";
        match Host::parse(text) {
            Ok(Host::Domain(name))
                if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) =>
            {
                Ok(Self::Host(name.trim_end_matches('.').to_owned()))
            }
            _ => Err(message),
        }
    }
}

/// Returns the addresses of a host with a port.
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names of hosts. Tests replace it.
#[derive(Clone)]
pub struct Resolver {
    resolve: Arc<Resolve>,
    accounts: TurnQueue,
    lookups: Arc<Semaphore>,
}

impl Resolver {
    /// Creates a resolver from a function, which may block.
    pub fn from_fn(resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self {
            resolve: Arc::new(resolve),
            accounts: TurnQueue::new(MAX_LOOKUPS_PER_ACCOUNT),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    async fn resolve(&self, account: Uuid, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let resolve = Arc::clone(&self.resolve);
        let turn = self.accounts.acquire(account).await;
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        // The thread continues after a timeout, so it holds the turn and the permit.
        let lookup = spawn_blocking(move || {
            let (_turn, _permit) = (turn, permit);
            resolve(&host, port)
        });
        lookup.await.map_err(io::Error::other)?
    }
}

impl Default for Resolver {
    /// Returns the resolver of the system.
    fn default() -> Self {
        Self::from_fn(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// The servers to which a service may connect.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    allowed: Vec<AllowedDestination>,
    resolver: Resolver,
}

/// A server to which the service may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name or the address of the host, for TLS.
    pub host: String,
    /// Whether to use TLS.
    pub uses_tls: bool,
    /// All addresses of the host. Connect to these, because a name may have others when it is resolved again.
    pub addresses: Vec<SocketAddr>,
}

/// Why a service may not connect to a server. The text is to be read after the name of the field with the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The URL has no host, or another scheme.
    #[error("must be an https URL with a host")]
    Invalid,
    /// The name cannot be resolved.
    #[error("has a host that cannot be resolved")]
    Unresolved,
    /// An address is not public.
    #[error("has a host with an address that is not public")]
    NotPublic,
    /// The URL has the scheme `http`.
    #[error("must use https")]
    Plaintext,
}

impl Destinations {
    /// Permits public addresses over TLS, and the `allowed` servers.
    #[must_use]
    pub fn new(allowed: Vec<AllowedDestination>, resolver: Resolver) -> Self {
        Self { allowed, resolver }
    }

    /// Resolves the host of a URL that a user of this account has named, and checks all of its addresses.
    ///
    /// # Errors
    /// If the service may not connect to one of them.
    pub async fn resolve(&self, account: Uuid, url: &Url) -> Result<Destination, Forbidden> {
        let uses_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Forbidden::Invalid),
        };
        let (host, port) = url.host().zip(url.port_or_known_default()).ok_or(Forbidden::Invalid)?;
        let (host, addresses) = match host {
            Host::Ipv4(address) => (address.to_string(), vec![SocketAddr::new(address.into(), port)]),
            Host::Ipv6(address) => (address.to_string(), vec![SocketAddr::new(address.into(), port)]),
            Host::Domain(name) => {
                let addresses = self.resolver.resolve(account, name.to_owned(), port).await;
                (name.trim_end_matches('.').to_owned(), addresses.map_err(|_| Forbidden::Unresolved)?)
            }
        };
        if addresses.is_empty() {
            return Err(Forbidden::Unresolved);
        }
        for address in &addresses {
            let is_allowed = self.allows(&host, address.ip());
            match uses_tls {
                true if !is_allowed && !is_public(address.ip()) => return Err(Forbidden::NotPublic),
                false if !is_allowed => return Err(Forbidden::Plaintext),
                _ => {}
            }
        }
        Ok(Destination { host, uses_tls, addresses })
    }

    fn allows(&self, host: &str, address: IpAddr) -> bool {
        self.allowed.iter().any(|allowed| match allowed {
            AllowedDestination::Network(network) => network.contains(&address.to_canonical()),
            AllowedDestination::Host(name) => name.eq_ignore_ascii_case(host),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(allowed: &[&str], addresses: &'static [&'static str]) -> Destinations {
        let resolver = Resolver::from_fn(|_, port| {
            let parse = |address: &&str| SocketAddr::new(address.parse().expect("an address"), port);
            Ok(addresses.iter().map(parse).collect())
        });
        Destinations::new(allowed.iter().map(|text| text.parse().expect("valid")).collect(), resolver)
    }

    async fn resolve(destinations: &Destinations, url: &str) -> Result<Destination, Forbidden> {
        destinations.resolve(Uuid::nil(), &url.parse().expect("a URL")).await
    }

    #[test]
    fn special_addresses_are_not_public() {
        let private =
            ["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1"];
        let special = ["198.18.0.1", "203.0.113.9", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1"];
        let embedded =
            ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001::1", "2001:db8::1", "ff02::1", "100::1"];
        for address in private.iter().chain(&special).chain(&embedded) {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[tokio::test]
    async fn every_address_of_a_host_must_be_public() {
        let public = destinations(&[], &["1.1.1.1", "2606:4700::1111"]);
        let resolved = resolve(&public, "https://example.com:8443/hook").await.expect("public addresses");
        assert_eq!((resolved.host.as_str(), resolved.addresses.len()), ("example.com", 2));
        assert_eq!(resolved.addresses[0].to_string(), "1.1.1.1:8443");
        let mixed = destinations(&[], &["1.1.1.1", "10.0.0.1"]);
        assert_eq!(resolve(&mixed, "https://example.com/").await, Err(Forbidden::NotPublic));
        assert_eq!(resolve(&destinations(&[], &[]), "https://example.com/").await, Err(Forbidden::Unresolved));
        for url in ["https://127.0.0.1/", "https://[::1]/", "https://0x7f.1/", "https://2130706433/"] {
            assert_eq!(resolve(&public, url).await, Err(Forbidden::NotPublic), "{url}");
        }
        assert_eq!(resolve(&public, "http://example.com/").await, Err(Forbidden::Plaintext));
        assert_eq!(resolve(&public, "ftp://example.com/").await, Err(Forbidden::Invalid));
    }

    #[tokio::test]
    async fn allowed_networks_and_hosts_may_have_private_addresses_and_no_tls() {
        let network = destinations(&["10.0.0.0/8"], &["10.0.0.1"]);
        resolve(&network, "https://example.com/").await.expect("an allowed address");
        resolve(&network, "http://example.com/").await.expect("an allowed address");
        assert_eq!(resolve(&network, "https://192.168.0.1/").await, Err(Forbidden::NotPublic));
        let host = destinations(&["Hooks.internal"], &["192.168.0.1"]);
        resolve(&host, "http://hooks.internal./").await.expect("an allowed host");
        assert_eq!(resolve(&host, "https://other.internal/").await, Err(Forbidden::NotPublic));
    }

    #[test]
    fn an_invalid_allowed_destination_is_refused() {
        for invalid in ["", "10.0.0.0/33", "https://example.com", "example.com:80", "a b", "*.example.com"] {
            assert!(invalid.parse::<AllowedDestination>().is_err(), "{invalid:?}");
        }
    }
}
