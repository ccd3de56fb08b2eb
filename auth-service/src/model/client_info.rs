//! Where calls come from.

use std::net::IpAddr;

/// The client of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The IP address of the client, if known.
    pub address: Option<IpAddr>,
    /// The `user-agent` of the client.
    pub user_agent: String,
}

impl ClientInfo {
    /// Returns the address as it is stored; empty if unknown.
    #[must_use]
    pub fn ip_address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}
