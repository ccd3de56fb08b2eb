//! Limits how much all clients together and each single client use at a time.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A limit of what is in use at a time, such as bytes or calls.
#[derive(Debug)]
pub struct Budget {
    max_total: usize,
    max_per_client: usize,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    total: usize,
    /// A client that uses nothing has no entry, so there are never more entries than calls.
    by_client: HashMap<IpAddr, usize>,
}

/// A limit would be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The part of a budget that one client uses until this value is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    client: IpAddr,
    amount: usize,
}

impl Budget {
    /// Creates a budget that is not in use.
    #[must_use]
    pub fn new(max_total: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_client, usage: Mutex::default() })
    }

    /// Returns an empty share.
    #[must_use]
    pub fn share(self: &Arc<Self>, client: IpAddr) -> Share {
        Share { budget: Arc::clone(self), client, amount: 0 }
    }

    /// Returns how much all clients use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.usage().total
    }

    // Never held across an await.
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Adds to the share. Even zero is refused to a client that is beyond its limit.
    ///
    /// # Errors
    /// If the client or all clients together would exceed their limit. The share is unchanged then.
    pub fn grow(&mut self, amount: usize) -> Result<(), Exhausted> {
        let mut usage = self.budget.usage();
        let used = usage.by_client.get(&self.client).copied().unwrap_or(0);
        if usage.total + amount > self.budget.max_total || used + amount > self.budget.max_per_client {
            return Err(Exhausted);
        }
        usage.add(self.client, amount);
        self.amount += amount;
        Ok(())
    }

    /// Adds to the share, even beyond the limits, for what cannot be refused any more.
    pub fn grow_beyond_limits(&mut self, amount: usize) {
        self.budget.usage().add(self.client, amount);
        self.amount += amount;
    }

    /// Returns the size of the share.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Releases the whole share.
    pub fn clear(&mut self) {
        let amount = mem::take(&mut self.amount);
        if amount == 0 {
            return;
        }
        self.budget.usage().remove(self.client, amount);
    }
}

impl Usage {
    fn add(&mut self, client: IpAddr, amount: usize) {
        if amount > 0 {
            self.total += amount;
            *self.by_client.entry(client).or_default() += amount;
        }
    }

    fn remove(&mut self, client: IpAddr, amount: usize) {
        self.total -= amount;
        if let Some(used) = self.by_client.get_mut(&client) {
            *used -= amount;
            if *used == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn each_client_and_all_clients_together_are_limited() {
        let budget = Budget::new(6, 3);
        let (mut first, mut second, mut third) =
            (budget.share(client(1)), budget.share(client(2)), budget.share(client(3)));
        assert_eq!(
            (first.grow(3), first.grow(1), budget.share(client(1)).grow(1)),
            (Ok(()), Err(Exhausted), Err(Exhausted))
        );
        assert_eq!((second.grow(2), third.grow(2), third.grow(1)), (Ok(()), Err(Exhausted), Ok(())));
        first.clear();
        assert_eq!((first.amount(), third.grow(2)), (0, Ok(())));
    }

    #[test]
    fn client_beyond_its_limit_is_refused_until_it_is_below() {
        let budget = Budget::new(9, 3);
        let mut share = budget.share(client(1));
        share.grow_beyond_limits(4);
        assert_eq!((share.grow(0), budget.share(client(1)).grow(0)), (Err(Exhausted), Err(Exhausted)));
        assert_eq!(budget.share(client(2)).grow(0), Ok(()));
        share.clear();
        assert_eq!(budget.share(client(1)).grow(0), Ok(()));
        assert_eq!(budget.usage().by_client.len(), 0);
    }

    #[test]
    fn released_shares_leave_nothing_behind() {
        let budget = Budget::new(6, 6);
        let mut share = budget.share(client(1));
        assert_eq!((share.grow(2), share.grow(9), share.grow(1)), (Ok(()), Err(Exhausted), Ok(())));
        drop(share);
        let usage = budget.usage();
        assert_eq!((usage.total, usage.by_client.len()), (0, 0));
    }
}
