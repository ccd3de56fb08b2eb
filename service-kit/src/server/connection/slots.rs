//! Limits the number of connections: in total, and per client.
//!
//! A trusted proxy is not a client: its connections count for the total only. The requests of its clients count
//! instead, because over HTTP/1 each request in progress occupies a connection of the proxy.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{network::rate_limit_key, ops::config::LimitArgs};

/// The slots for the connections of a server.
pub(in crate::server) struct Slots {
    max_total: usize,
    /// Maximum number of connections per address, including requests that came through trusted proxies.
    max_per_address: usize,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    total: usize,
    /// An address without connections and requests has no entry, so there are never more entries than these.
    by_address: HashMap<IpAddr, usize>,
}

/// The slot of one connection or request. It is released when it is dropped, however the connection ends.
pub(in crate::server) struct Slot {
    slots: Arc<Slots>,
    is_connection: bool,
    /// The address for which it counts, if it counts for one.
    address: Option<IpAddr>,
}

/// The limit that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum ReachedLimit {
    Server,
    Address,
}

impl Slots {
    pub(in crate::server) fn new(limits: &LimitArgs) -> Arc<Self> {
        Self::with_limits(limits.max_connections, limits.max_connections_per_address)
    }

    pub(in crate::server) fn with_limits(max_total: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_address, usage: Mutex::default() })
    }

    /// Acquires a slot for a connection of a client.
    pub(in crate::server) fn acquire(self: &Arc<Self>, client: IpAddr) -> Result<Slot, ReachedLimit> {
        self.acquire_slot(true, Some(client))
    }

    /// Acquires a slot for a connection of a trusted proxy.
    pub(super) fn acquire_for_proxy(self: &Arc<Self>) -> Result<Slot, ReachedLimit> {
        self.acquire_slot(true, None)
    }

    /// Acquires a slot for a request of a client that came through a trusted proxy.
    pub(super) fn acquire_for_request(self: &Arc<Self>, client: IpAddr) -> Result<Slot, ReachedLimit> {
        self.acquire_slot(false, Some(client))
    }

    fn acquire_slot(self: &Arc<Self>, is_connection: bool, client: Option<IpAddr>) -> Result<Slot, ReachedLimit> {
        let address = client.map(rate_limit_key);
        let mut usage = self.usage();
        if is_connection && usage.total >= self.max_total {
            return Err(ReachedLimit::Server);
        }
        if let Some(address) = address {
            let count = usage.by_address.get(&address).copied().unwrap_or(0);
            if count >= self.max_per_address {
                return Err(ReachedLimit::Address);
            }
            usage.by_address.insert(address, count + 1);
        }
        usage.total += usize::from(is_connection);
        Ok(Slot { slots: Arc::clone(self), is_connection, address })
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut usage = self.slots.usage();
        usage.total -= usize::from(self.is_connection);
        let Some(address) = self.address else { return };
        if let Some(count) = usage.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                usage.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(slots: &Arc<Slots>, peer: &str) -> Result<Slot, ReachedLimit> {
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
        let usage = slots.usage();
        assert_eq!((usage.total, usage.by_address.len()), (0, 0));
    }
}
