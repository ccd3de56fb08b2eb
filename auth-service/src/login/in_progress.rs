//! Limits how many password attempts of one account are in progress at the same time. Further attempts wait, so that
//! concurrent logins with the correct password succeed, but few concurrent guesses are evaluated.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use service_kit::status::ApiError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{error, model::login_throttle::ThrottleKey};

/// Maximum number of concurrent attempts per counter.
const MAX_RUNNING: usize = 10;

/// Maximum number of attempts per counter that wait.
const MAX_WAITING: usize = 128;

/// Maximum time that an attempt waits.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// When to try again if too many attempts wait.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The number of queues. Counters are mapped to queues by a hash with a random seed, which clients cannot predict. Two
/// counters can share a queue, which matters only if both have many attempts in progress.
const QUEUES: u64 = 4096;

/// The attempts in progress on this replica.
#[derive(Debug)]
pub struct InProgress {
    queues: Box<[Queue]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Queue {
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

/// A permit for one attempt.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "dropping it ends the attempt")] OwnedSemaphorePermit);

impl InProgress {
    /// Creates the queues.
    #[must_use]
    pub fn new() -> Self {
        let queue = || Queue { running: Arc::new(Semaphore::new(MAX_RUNNING)), waiting: Semaphore::new(MAX_WAITING) };
        Self { queues: (0..QUEUES).map(|_| queue()).collect(), hasher: RandomState::new() }
    }

    /// Waits for a permit for an attempt of this counter.
    ///
    /// # Errors
    /// RATE_LIMITED if too many attempts wait, or the wait takes too long.
    pub async fn acquire(&self, counter: &ThrottleKey) -> Result<Permit, ApiError> {
        let queue = self.queue(counter);
        let too_many = || error::too_many_attempts(RETRY_DELAY);
        let _waiting = queue.waiting.try_acquire().map_err(|_| too_many())?;
        let running = timeout(MAX_WAIT, Arc::clone(&queue.running).acquire_owned()).await.map_err(|_| too_many())?;
        running.map(Permit).map_err(ApiError::internal)
    }

    fn queue(&self, counter: &ThrottleKey) -> &Queue {
        let index = usize::try_from(self.hasher.hash_one(counter) % QUEUES).unwrap_or(0);
        &self.queues[index]
    }
}
