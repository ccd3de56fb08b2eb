//! Limits the number of connections: in total, and per client.
//!
//! A trusted proxy is not a client: its connections count for the total only. The requests of its clients count
//! instead, because over HTTP/1 each request in progress occupies a connection of the proxy.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::{
    budget::{Budget, Share},
    network::rate_limit_key,
    ops::config::LimitArgs,
};

/// The slots for the connections of a server.
pub(super) struct Slots {
    /// All connections.
    connections: Arc<Budget>,
    /// The connections of each address, including requests that came through trusted proxies.
    by_address: Arc<Budget>,
}

/// The slot of one connection or request. It is released when it is dropped, however the connection ends.
pub(super) struct Slot {
    _connection: Option<Share>,
    _address: Option<Share>,
}

/// The limit that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReachedLimit {
    Server,
    Address,
}

/// The client of all connections.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Slots {
    pub(super) fn new(limits: &LimitArgs) -> Arc<Self> {
        Self::with_limits(limits.max_connections, limits.max_connections_per_address)
    }

    pub(super) fn with_limits(max_total: usize, max_per_address: usize) -> Arc<Self> {
        let connections = Budget::new(max_total, max_total);
        Arc::new(Self { connections, by_address: Budget::new(usize::MAX, max_per_address) })
    }

    /// Acquires a slot for a connection of a client.
    pub(super) fn acquire(&self, client: IpAddr) -> Result<Slot, ReachedLimit> {
        Ok(Slot { _connection: Some(self.connection()?), _address: Some(self.address(client)?) })
    }

    /// Acquires a slot for a connection of a trusted proxy.
    pub(super) fn acquire_for_proxy(&self) -> Result<Slot, ReachedLimit> {
        Ok(Slot { _connection: Some(self.connection()?), _address: None })
    }

    /// Acquires a slot for a request of a client that came through a trusted proxy.
    pub(super) fn acquire_for_request(&self, client: IpAddr) -> Result<Slot, ReachedLimit> {
        Ok(Slot { _connection: None, _address: Some(self.address(client)?) })
    }

    fn connection(&self) -> Result<Share, ReachedLimit> {
        let mut share = self.connections.share(SERVER);
        share.grow(1).map(|()| share).map_err(|_| ReachedLimit::Server)
    }

    fn address(&self, client: IpAddr) -> Result<Share, ReachedLimit> {
        let mut share = self.by_address.share(rate_limit_key(client));
        share.grow(1).map(|()| share).map_err(|_| ReachedLimit::Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(slots: &Slots, peer: &str) -> Result<Slot, ReachedLimit> {
        slots.acquire(peer.parse().expect("a valid address"))
    }

    #[test]
    fn connections_of_proxies_count_for_the_total_only() {
        let slots = Slots::with_limits(3, 1);
        let proxy = [(); 3].map(|()| slots.acquire_for_proxy().expect("a free slot"));
        assert_eq!(slots.acquire_for_proxy().err(), Some(ReachedLimit::Server));
        let client = "192.0.2.1".parse().expect("an address");
        let request = slots.acquire_for_request(client).expect("a free slot");
        assert_eq!(slots.acquire_for_request(client).err(), Some(ReachedLimit::Address));
        drop((proxy, request));
        let _direct = acquire(&slots, "192.0.2.1").expect("a free slot");
        assert_eq!(slots.acquire_for_request(client).err(), Some(ReachedLimit::Address));
    }

    #[test]
    fn addresses_of_one_network_share_a_limit() {
        let slots = Slots::with_limits(9, 1);
        let _first = acquire(&slots, "2001:db8::1").expect("a free slot");
        assert_eq!(acquire(&slots, "2001:db8::2").err(), Some(ReachedLimit::Address));
        let _others =
            ["2001:db8:0:1::1", "192.0.2.2", "192.0.2.3"].map(|peer| acquire(&slots, peer).expect("a free slot"));
    }

    #[test]
    fn rejected_and_closed_connections_do_not_count() {
        let slots = Slots::with_limits(2, 1);
        let first = acquire(&slots, "192.0.2.1").expect("a free slot");
        assert_eq!(acquire(&slots, "192.0.2.1").err(), Some(ReachedLimit::Address));
        let second = acquire(&slots, "192.0.2.2").expect("a free slot");
        assert_eq!(acquire(&slots, "192.0.2.3").err(), Some(ReachedLimit::Server));
        drop((first, second));
        let _others = ["192.0.2.1", "192.0.2.2"].map(|peer| acquire(&slots, peer).expect("a free slot"));
    }
}
