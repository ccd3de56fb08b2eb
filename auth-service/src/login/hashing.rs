//! Password hashing with argon2id (RFC 9106), on blocking threads and with limited concurrency.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use argon2::Params;
use service_kit::{
    budget::{Budget, Share},
    ops::as_gauge,
    status::ApiError,
    trace,
    turns::{Turn, TurnQueue},
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::hasher::{Comparison, Hasher};
use crate::{config::PasswordArgs, model::password::Password};

/// Maximum number of queued hashes per running hash. At about 15 ms per hash, the last one waits for one second.
const MAX_QUEUED_PER_RUNNING: usize = 64;

/// One client may have this fraction of all running and queued hashes.
const CLIENT_FRACTION: usize = 4;

/// Maximum time in the queue, which limits the wait on slow machines.
const MAX_QUEUE_TIME: Duration = Duration::from_millis(800);

/// The memory of hashes is freed when it was not used for this time.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// Computes and compares password hashes.
#[derive(Clone, Debug)]
pub struct Hashing {
    hasher: Hasher,
    /// One permit for each hash that may run.
    running: Arc<Semaphore>,
    max_running: usize,
    /// The hashes that run or wait.
    queue: Arc<Budget>,
    /// A client may only have as many hashes waiting for `running` as may run, so that those of another client do not
    /// wait behind all of them.
    turns: TurnQueue<IpAddr>,
    /// A random hash. Passwords of unknown accounts are compared with it, to take the same time.
    dummy_hash: Arc<str>,
}

impl Hashing {
    /// Creates a hasher with the parameters and the concurrency of `args`.
    ///
    /// # Errors
    /// If argon2 does not accept the parameters.
    pub fn new(args: &PasswordArgs) -> anyhow::Result<Self> {
        let params = Params::new(args.password_memory_kib, args.password_passes, 1, None)
            .map_err(|error| anyhow::anyhow!("invalid password hash parameters: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = args.password_concurrency.map_or(cores.saturating_sub(1).max(1), usize::from);
        let queued = running * (MAX_QUEUED_PER_RUNNING + 1);
        let hasher = Hasher::new(params);
        let dummy_hash = hasher.dummy_hash().map_err(|error| anyhow::anyhow!("cannot create a dummy hash: {error}"))?;
        Ok(Self {
            hasher,
            running: Arc::new(Semaphore::new(running)),
            max_running: running,
            queue: Budget::new(queued, queued / CLIENT_FRACTION),
            turns: TurnQueue::new(running),
            dummy_hash: dummy_hash.into(),
        })
    }

    /// Sets the metrics of the queue. Call it regularly.
    pub fn record_metrics(&self) {
        let running = self.max_running - self.running.available_permits().min(self.max_running);
        let hashes = |state| metrics::gauge!("taskey_password_hashes", "state" => state);
        hashes("running").set(as_gauge(running));
        hashes("waiting").set(as_gauge(self.queue.used().saturating_sub(running)));
    }

    /// Frees memory that is idle, for as long as it is awaited.
    pub async fn free_idle_memory(&self) -> Infallible {
        loop {
            sleep(IDLE_TIME).await;
            self.hasher.free_idle_memory();
        }
    }

    /// Waits for a permit to compute a hash for a client.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED / OVERLOADED if the queue is full, the client has too many hashes in it, or the wait takes too
    /// long.
    pub async fn acquire(&self, client: IpAddr) -> Result<HashPermit, ApiError> {
        let mut queue = self.queue.share(client);
        queue.grow(1).map_err(|_| overloaded())?;
        let _span = trace::step("wait for password hash");
        let wait = async {
            let turn = self.turns.acquire(client).await;
            (Arc::clone(&self.running).acquire_owned().await, turn)
        };
        let (running, turn) = timeout(MAX_QUEUE_TIME, wait).await.map_err(|_| overloaded())?;
        Ok(HashPermit { _running: running.map_err(ApiError::internal)?, _turn: turn, _queue: queue })
    }

    /// Returns the hash of a new password as a PHC string.
    ///
    /// # Errors
    /// INTERNAL if it cannot be computed.
    pub async fn hash(&self, permit: HashPermit, password: Password) -> Result<String, ApiError> {
        let hasher = self.hasher.clone();
        run(permit, move || hasher.hash(password.as_bytes())).await?.map_err(ApiError::internal)
    }

    /// Compares a password with a stored hash. Without a stored hash, or if a cheaper one does not match, this takes as
    /// long as with a hash of the policy. A more expensive hash takes longer.
    ///
    /// # Errors
    /// Like [`acquire`](Self::acquire); INTERNAL if the stored hash is malformed or too expensive.
    pub async fn compare(
        &self,
        client: IpAddr,
        password: Password,
        stored_hash: Option<String>,
    ) -> Result<Comparison, ApiError> {
        let (hasher, dummy_hash) = (self.hasher.clone(), Arc::clone(&self.dummy_hash));
        let compare = move || match stored_hash {
            Some(stored_hash) => hasher.compare(password.as_bytes(), &stored_hash),
            None => hasher.compare(password.as_bytes(), &dummy_hash).map(|_| Comparison::Different),
        };
        run(self.acquire(client).await?, compare).await?.map_err(ApiError::internal)
    }
}

/// A permit to compute one hash.
#[derive(Debug)]
pub struct HashPermit {
    _running: OwnedSemaphorePermit,
    _turn: Turn<IpAddr>,
    _queue: Share,
}

/// Computes one hash on a blocking thread. The thread owns the permit, so a caller who disconnects does not release it
/// before the hash is finished.
async fn run<T: Send + 'static>(permit: HashPermit, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let _span = trace::step("hash password");
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}

fn overloaded() -> ApiError {
    let message = "too many passwords wait to be hashed";
    ApiError::limit_exceeded("password_hashes", ErrorReason::Overloaded, message).retry_after(Duration::from_secs(1))
}
