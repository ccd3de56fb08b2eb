//! Queues in which calls of one account, or of one client, wait for each other.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// A queue for each account with waiting or running calls. Others have none, so memory is bounded by the calls. `K`
/// identifies an account.
#[derive(Clone, Debug)]
pub struct TurnQueue<K: Account = Uuid>(Arc<Accounts<K>>);

/// Identifies an account.
pub trait Account: Copy + Debug + Eq + Hash {}

impl<K: Copy + Debug + Eq + Hash> Account for K {}

#[derive(Debug)]
struct Accounts<K> {
    /// How many calls of an account may be executed at the same time.
    max_running: usize,
    queues: Mutex<HashMap<K, Queue>>,
}

#[derive(Debug)]
struct Queue {
    /// The permits of the calls that are executed. Others acquire them in the order of their arrival.
    running: Arc<Semaphore>,
    /// How many calls wait or are executed.
    calls: usize,
}

impl<K: Account> Default for TurnQueue<K> {
    /// Each account executes one call at a time.
    fn default() -> Self {
        Self::new(1)
    }
}

impl<K: Account> TurnQueue<K> {
    /// Creates queues in which each account executes `max_running` calls at a time.
    #[must_use]
    pub fn new(max_running: usize) -> Self {
        Self(Arc::new(Accounts { max_running, queues: Mutex::default() }))
    }

    /// Waits for the turn of a call. A caller that is dropped while it waits leaves the queue.
    pub async fn acquire(&self, account: K) -> Turn<K> {
        let (running, membership) = Membership::join(&self.0, account);
        // The semaphore is never closed.
        Turn { _membership: membership, _permit: running.acquire_owned().await.ok() }
    }

    /// Returns how many calls of an account wait or are executed.
    #[must_use]
    pub fn count(&self, account: K) -> usize {
        self.0.lock().get(&account).map_or(0, |queue| queue.calls)
    }
}

/// The turn of a call, until it is dropped.
#[derive(Debug)]
pub struct Turn<K: Account = Uuid> {
    // Dropped before the permit, so that the next call finds only those that wait behind it.
    _membership: Membership<K>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A call's entry in the queue of its account, until it is dropped. The last entry removes the queue.
#[derive(Debug)]
struct Membership<K: Account> {
    accounts: Arc<Accounts<K>>,
    account: K,
}

impl<K: Account> Membership<K> {
    fn join(accounts: &Arc<Accounts<K>>, account: K) -> (Arc<Semaphore>, Self) {
        let mut queues = accounts.lock();
        let new = || Queue { running: Arc::new(Semaphore::new(accounts.max_running)), calls: 0 };
        let queue = queues.entry(account).or_insert_with(new);
        queue.calls += 1;
        (Arc::clone(&queue.running), Self { accounts: Arc::clone(accounts), account })
    }
}

impl<K: Account> Drop for Membership<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut queue) = self.accounts.lock().entry(self.account) {
            queue.get_mut().calls -= 1;
            if queue.get().calls == 0 {
                queue.remove();
            }
        }
    }
}

impl<K> Accounts<K> {
    // Held for a lookup, never across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
