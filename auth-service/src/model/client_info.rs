//! The client of a call.

use std::net::IpAddr;

/// Where a call comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The address of the client, if it is known.
    pub address: Option<IpAddr>,
    /// The `user-agent` of the client.
    pub user_agent: String,
}

impl ClientInfo {
    /// Returns the address as it is stored; empty if it is not known.
    #[must_use]
    pub fn ip_address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}
