//! How many connections there may be: in all, and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{network::rate_limit_key, ops::config::LimitArgs};

/// What is left of the connections that a server takes.
pub(super) struct Slots {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    /// An address without connections has no entry, so there are never more entries than connections.
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection. It is free again when this is dropped, however the connection ends.
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
}

/// Whose connections are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Server,
    Address,
}

impl Slots {
    pub(super) fn new(limits: &LimitArgs) -> Arc<Self> {
        Self::of(limits.max_connections, limits.max_connections_per_address)
    }

    fn of(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, taken: Mutex::default() })
    }

    /// Takes a slot for a connection from this address.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Full> {
        let address = rate_limit_key(peer);
        let mut taken = self.taken();
        if taken.total >= self.total {
            return Err(Full::Server);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.per_address {
            return Err(Full::Address);
        }
        taken.by_address.insert(address, of_address + 1);
        taken.total += 1;
        Ok(Slot { slots: Arc::clone(self), address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &Arc<Slots>, peer: &str) -> Result<Slot, Full> {
        slots.take(peer.parse().expect("an address"))
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let slots = Slots::of(9, 1);
        let _first = take(&slots, "2001:db8::1").expect("free");
        assert_eq!(take(&slots, "2001:db8::2").err(), Some(Full::Address));
        let _others = ["2001:db8:0:1::1", "192.0.2.2", "192.0.2.3"].map(|peer| take(&slots, peer).expect("free"));
    }

    #[test]
    fn a_refusal_takes_nothing_and_nothing_is_kept_of_who_has_gone() {
        let slots = Slots::of(2, 1);
        let first = take(&slots, "192.0.2.1").expect("free");
        assert_eq!(take(&slots, "192.0.2.1").err(), Some(Full::Address));
        let second = take(&slots, "192.0.2.2").expect("free");
        assert_eq!(take(&slots, "192.0.2.3").err(), Some(Full::Server));
        drop((first, second));
        let taken = slots.taken();
        assert_eq!((taken.total, taken.by_address.len()), (0, 0));
    }
}
