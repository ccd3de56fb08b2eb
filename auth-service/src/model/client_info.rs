//! Where calls come from.

use std::net::{IpAddr, Ipv4Addr};

use service_kit::network::rate_limit_key;

/// The client of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The IP address of the client, if known.
    pub address: Option<IpAddr>,
    /// The `user-agent` of the client.
    pub user_agent: String,
}

impl ClientInfo {
    /// Returns the key under which limits count the client. Clients without an address share one.
    #[must_use]
    pub fn rate_limit_key(&self) -> IpAddr {
        rate_limit_key(self.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// Returns the address as it is stored; empty if unknown.
    #[must_use]
    pub fn ip_address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}
