//! Password hashing with argon2id (RFC 9106), on blocking threads and with limited concurrency.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, RECOMMENDED_SALT_LEN, Version,
    password_hash::{
        Error,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use service_kit::{
    budget::{Budget, Share},
    ops::as_gauge,
    random,
    status::ApiError,
    trace,
    turns::{Turn, TurnQueue},
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{config::PasswordArgs, model::password::Password};

/// Maximum number of queued hashes per running hash. At about 15 ms per hash, the last one waits for one second.
const MAX_QUEUED_PER_RUNNING: usize = 64;

/// One client may have this fraction of all running and queued hashes.
const CLIENT_FRACTION: usize = 4;

/// Maximum time in the queue, which limits the wait on slow machines.
const MAX_QUEUE_TIME: Duration = Duration::from_millis(800);

/// Stored hashes with a higher cost are rejected: this service did not create them.
const MAX_MEMORY_KIB: u32 = 1_048_576;
const MAX_PASSES: u32 = 64;

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
    /// The hash of a random password. Passwords of unknown accounts are compared with it, to take the same time.
    dummy_hash: Arc<str>,
}

/// How a password compares with a stored hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The password does not match.
    Different,
    /// The password matches.
    Same,
    /// The password matches, but the stored hash has other parameters than the policy. Contains a new hash.
    SameAndRehashed(String),
}

impl Hashing {
    /// Creates a hasher with the parameters and the concurrency of `args`.
    ///
    /// # Errors
    /// If argon2 does not accept the parameters.
    pub fn new(args: &PasswordArgs) -> anyhow::Result<Self> {
        let params = Params::new(args.password_memory_kib, args.password_passes, 1, None)
            .map_err(|error| anyhow::anyhow!("invalid password hash parameters: {error}"))?;
        let hasher = Hasher::new(params);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = args.password_concurrency.map_or(cores.saturating_sub(1).max(1), usize::from);
        let queued = running * (MAX_QUEUED_PER_RUNNING + 1);
        let dummy_hash = hasher
            .hash(&random::bytes::<32>())
            .map_err(|error| anyhow::anyhow!("cannot compute a password hash: {error}"))?;
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

/// Computes hashes on the current thread.
#[derive(Clone)]
struct Hasher {
    policy: Params,
    /// The memory of finished hashes, which the next ones reuse. If each thread allocated its own, the allocator would
    /// retain more than the limit.
    memory_pool: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Hasher {
    fn new(policy: Params) -> Self {
        Self { policy, memory_pool: Arc::default() }
    }

    fn hash(&self, password: &[u8]) -> Result<String, Error> {
        let salt = Salt::new(&random::bytes::<RECOMMENDED_SALT_LEN>())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.policy.clone());
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.policy)?,
            salt: Some(salt),
            hash: Some(self.compute(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?),
        };
        Ok(hash.to_string())
    }

    /// Compares with the parameters of the stored hash. If the password matches and the parameters are not those of the
    /// policy, computes a new hash.
    fn compare(&self, password: &[u8], stored_hash: &str) -> Result<Comparison, Error> {
        let stored = PasswordHash::new(stored_hash)?;
        let params = Params::try_from(&stored)?;
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
            return Err(Error::ParamsInvalid);
        }
        let (salt, expected) = stored.salt.zip(stored.hash).ok_or(Error::EncodingInvalid)?;
        let version = stored.version.map_or(Ok(Version::default()), Version::try_from)?;
        let argon2 = Argon2::new(Algorithm::try_from(stored.algorithm.as_str())?, version, params.clone());
        // `Output` is compared in constant time.
        if self.compute(&argon2, password, &salt, expected.len())? != expected {
            self.spend_remaining_cost(&params, password)?;
            return Ok(Comparison::Different);
        }
        let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        if costs(&params) == costs(&self.policy) {
            Ok(Comparison::Same)
        } else {
            self.hash(password).map(Comparison::SameAndRehashed)
        }
    }

    /// Spends the difference in cost between a cheaper stored hash and the policy. Otherwise the response time would
    /// reveal an account that has not logged in since the policy became stricter. The cost is memory times passes,
    /// approximately.
    fn spend_remaining_cost(&self, stored: &Params, password: &[u8]) -> Result<(), Error> {
        let cost = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
        let passes = self.policy.t_cost();
        let memory_kib = cost(&self.policy).saturating_sub(cost(stored)) / u64::from(passes);
        let memory_kib = u32::try_from(memory_kib).expect("at most the memory of the policy");
        if memory_kib < Params::MIN_M_COST {
            return Ok(());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory_kib, passes, 1, None)?);
        self.compute(&argon2, password, &[0; RECOMMENDED_SALT_LEN], Params::DEFAULT_OUTPUT_LEN).map(|_| ())
    }

    fn compute(&self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Result<Output, Error> {
        let blocks = argon2.params().block_count();
        let mut memory = self.lock_memory_pool().pop().unwrap_or_default();
        if memory.len() < blocks {
            memory.resize(blocks, Block::new());
        }
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        argon2.hash_password_into_with_memory(password, salt, output, &mut memory[..])?;
        // Memory for a hash that is larger than the policy's is freed.
        if memory.len() <= self.policy.block_count() {
            self.lock_memory_pool().push(memory);
        }
        Ok(Output::new(output)?)
    }

    // Never held while a hash is computed.
    fn lock_memory_pool(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.memory_pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    const PASSWORD: &[u8] = b"correct horse battery staple";

    fn params(memory_kib: u32, passes: u32) -> Params {
        Params::new(memory_kib, passes, 1, None).expect("valid parameters")
    }

    fn argon2(params: Params) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }

    #[test]
    fn hashes_with_reused_memory_equal_those_of_the_argon2_crate() {
        let hasher = Hasher::new(params(64, 2));
        for _ in 0..3 {
            let hash = PasswordHash::new(&hasher.hash(PASSWORD).expect("hashed")).expect("PHC");
            assert_eq!(argon2(params(8, 1)).verify_password(PASSWORD, &hash), Ok(()));
            assert_eq!(hash.params.to_string(), "m=64,t=2,p=1");
            // Smaller than, equal to, and larger than the pooled memory.
            for memory_kib in [8, 64, 256] {
                let stored_hash = argon2(params(memory_kib, 2)).hash_password(PASSWORD).expect("hashed").to_string();
                assert_eq!(hasher.compare(b"another", &stored_hash), Ok(Comparison::Different));
                let comparison = hasher.compare(PASSWORD, &stored_hash).expect("compared");
                assert_eq!(comparison == Comparison::Same, memory_kib == 64, "{memory_kib}: {comparison:?}");
                assert_ne!(comparison, Comparison::Different, "{memory_kib}");
            }
        }
        assert_eq!(hasher.lock_memory_pool().iter().map(Vec::len).collect::<Vec<_>>(), [64]);
    }
}
