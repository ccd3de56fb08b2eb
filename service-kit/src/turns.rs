//! Queues in which calls of one account wait for each other.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use uuid::Uuid;

/// A queue for each account with waiting or running calls. Others have none, so memory is bounded by the calls.
#[derive(Clone, Debug, Default)]
pub struct TurnQueue(Arc<Accounts>);

#[derive(Debug, Default)]
struct Accounts(Mutex<HashMap<Uuid, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Held by the call that is executed. Others acquire it in the order of their arrival.
    lock: Arc<AsyncMutex<()>>,
    /// How many calls wait or are executed.
    calls: usize,
}

impl TurnQueue {
    /// Waits for the turn of a call. A caller that is dropped while it waits leaves the queue.
    pub async fn acquire(&self, account: Uuid) -> Turn {
        let (lock, membership) = Membership::join(&self.0, account);
        Turn { _membership: membership, _guard: lock.lock_owned().await }
    }

    /// Returns how many calls of an account wait or are executed.
    #[must_use]
    pub fn count(&self, account: Uuid) -> usize {
        self.0.lock().get(&account).map_or(0, |queue| queue.calls)
    }
}

/// The turn of a call, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    // Dropped before the guard, so that the next call finds only those that wait behind it.
    _membership: Membership,
    _guard: OwnedMutexGuard<()>,
}

/// A call's entry in the queue of its account, until it is dropped. The last entry removes the queue.
#[derive(Debug)]
struct Membership {
    accounts: Arc<Accounts>,
    account: Uuid,
}

impl Membership {
    fn join(accounts: &Arc<Accounts>, account: Uuid) -> (Arc<AsyncMutex<()>>, Self) {
        let mut queues = accounts.lock();
        let queue = queues.entry(account).or_default();
        queue.calls += 1;
        (Arc::clone(&queue.lock), Self { accounts: Arc::clone(accounts), account })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Entry::Occupied(mut queue) = self.accounts.lock().entry(self.account) {
            queue.get_mut().calls -= 1;
            if queue.get().calls == 0 {
                queue.remove();
            }
        }
    }
}

impl Accounts {
    // Held for a lookup, never across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
