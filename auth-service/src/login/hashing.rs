//! Password hashes: argon2id (RFC 9106), never on an async thread, and never more at once than the machine can bear.

use std::{
    fmt,
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
use service_kit::{random, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Code;

use crate::{config::PasswordArgs, model::password::Password};

/// How many may wait for each one that runs. At some 15 ms a hash the last of them waits a second.
const WAITING_PER_RUNNING: usize = 64;

/// Maximum time in the queue, however slow the machine is.
const WAIT: Duration = Duration::from_millis(800);

/// A stored hash that would cost more than this is not computed: it is not one that we have made.
const MAX_MEMORY_KIB: u32 = 1_048_576;
const MAX_PASSES: u32 = 64;

/// Computes and checks hashes.
#[derive(Clone, Debug)]
pub struct Hashing {
    hasher: Hasher,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// The hash of nothing that anybody knows: what an unknown account is checked against, so that it takes as long.
    unknown: Arc<str>,
}

/// How a password compares with a stored hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is not the one.
    Different,
    /// It is.
    Same,
    /// It is, and here is a hash after the policy of today, which the stored one is not.
    SameAndRehashed(String),
}

impl Hashing {
    /// Hashing after a policy.
    ///
    /// # Errors
    /// If argon2 does not take the parameters.
    pub fn new(args: &PasswordArgs) -> anyhow::Result<Self> {
        let params = Params::new(args.password_memory_kib, args.password_passes, 1, None)
            .map_err(|error| anyhow::anyhow!("the parameters of the password hash: {error}"))?;
        let hasher = Hasher::new(params);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = args.password_concurrency.map_or(cores.saturating_sub(1).max(1), usize::from);
        let unknown = hasher.hash(&random::bytes::<32>()).map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
        Ok(Self {
            hasher,
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(running * (WAITING_PER_RUNNING + 1))),
            unknown: unknown.into(),
        })
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED / OVERLOADED if too many wait, or it would take too long.
    pub async fn turn(&self) -> Result<Turn, ApiError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| overloaded())?;
        let running = timeout(WAIT, Arc::clone(&self.running).acquire_owned()).await.map_err(|_| overloaded())?;
        Ok(Turn { _running: running.map_err(ApiError::internal)?, _admitted: admitted })
    }

    /// The hash of a new password, as a PHC string.
    ///
    /// # Errors
    /// INTERNAL if it cannot be computed.
    pub async fn hash(&self, turn: Turn, password: Password) -> Result<String, ApiError> {
        let hasher = self.hasher.clone();
        run(turn, move || hasher.hash(password.as_bytes())).await?.map_err(ApiError::internal)
    }

    /// Compares a password with a stored hash. Without one it takes as long as with one of the policy, and so does one
    /// that is cheaper and does not fit; one that is dearer takes longer.
    ///
    /// # Errors
    /// As [`turn`](Self::turn); INTERNAL if the stored hash is not one of ours.
    pub async fn compare(&self, password: Password, stored: Option<String>) -> Result<Comparison, ApiError> {
        let (hasher, unknown) = (self.hasher.clone(), Arc::clone(&self.unknown));
        let compare = move || match stored {
            Some(stored) => hasher.compare(password.as_bytes(), &stored),
            None => hasher.compare(password.as_bytes(), &unknown).map(|_| Comparison::Different),
        };
        run(self.turn().await?, compare).await?.map_err(ApiError::internal)
    }
}

/// The right to compute one hash now.
#[derive(Debug)]
pub struct Turn {
    _running: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
}

/// Runs one hash on a thread for blocking work. The turn goes with it: a caller who hangs up does not free a place
/// that is still in use.
async fn run<T: Send + 'static>(turn: Turn, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}

fn overloaded() -> ApiError {
    let message = "too many passwords wait to be hashed";
    ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message).retry_after(Duration::from_secs(1))
}

/// Computes hashes one by one.
#[derive(Clone)]
struct Hasher {
    policy: Params,
    /// The memory of computed hashes, for the next ones. If each thread allocated its own, the allocator would keep more
    /// than the limit.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Hasher {
    fn new(policy: Params) -> Self {
        Self { policy, memory: Arc::default() }
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

    /// Compares with the parameters of the stored hash, and hashes again if they are not those of the policy.
    fn compare(&self, password: &[u8], stored: &str) -> Result<Comparison, Error> {
        let stored = PasswordHash::new(stored)?;
        let params = Params::try_from(&stored)?;
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
            return Err(Error::ParamsInvalid);
        }
        let (salt, expected) = stored.salt.zip(stored.hash).ok_or(Error::EncodingInvalid)?;
        let version = stored.version.map_or(Ok(Version::default()), Version::try_from)?;
        let argon2 = Argon2::new(Algorithm::try_from(stored.algorithm.as_str())?, version, params.clone());
        // They are compared in constant time.
        if self.compute(&argon2, password, &salt, expected.len())? != expected {
            self.make_up(&params, password)?;
            return Ok(Comparison::Different);
        }
        let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        if costs(&params) == costs(&self.policy) {
            Ok(Comparison::Same)
        } else {
            self.hash(password).map(Comparison::SameAndRehashed)
        }
    }

    /// Spends what a cheaper hash has cost less than one of the policy: else its time would tell that there is an
    /// account, one that has not logged in since the policy became stricter. The cost is about memory times passes.
    fn make_up(&self, stored: &Params, password: &[u8]) -> Result<(), Error> {
        let cost = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
        let passes = self.policy.t_cost();
        let missing = cost(&self.policy).saturating_sub(cost(stored)) / u64::from(passes);
        let memory = u32::try_from(missing).expect("it is no more than the memory of the policy");
        if memory < Params::MIN_M_COST {
            return Ok(());
        }
        let rest = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory, passes, 1, None)?);
        self.compute(&rest, password, &[0; RECOMMENDED_SALT_LEN], Params::DEFAULT_OUTPUT_LEN).map(|_| ())
    }

    fn compute(&self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Result<Output, Error> {
        let blocks = argon2.params().block_count();
        let mut memory = self.memory().pop().unwrap_or_default();
        if memory.len() < blocks {
            memory.resize(blocks, Block::new());
        }
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        argon2.hash_password_into_with_memory(password, salt, output, &mut memory[..])?;
        // What an older policy needed beyond that of today is not kept.
        if memory.len() <= self.policy.block_count() {
            self.memory().push(memory);
        }
        Ok(Output::new(output)?)
    }

    // Held for a push or a pop, never for a hash.
    fn memory(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    const PASSWORD: &[u8] = b"correct horse battery staple";

    fn params(memory_kib: u32, passes: u32) -> Params {
        Params::new(memory_kib, passes, 1, None).expect("good")
    }

    fn argon2(params: Params) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }

    #[test]
    fn hashes_are_those_of_the_crate_though_memory_is_used_again() {
        let hasher = Hasher::new(params(64, 2));
        for _ in 0..3 {
            let hash = PasswordHash::new(&hasher.hash(PASSWORD).expect("hashed")).expect("PHC");
            assert_eq!(argon2(params(8, 1)).verify_password(PASSWORD, &hash), Ok(()));
            assert_eq!(hash.params.to_string(), "m=64,t=2,p=1");
            // Smaller, the same, and larger than what is kept.
            for memory in [8, 64, 256] {
                let stored = argon2(params(memory, 2)).hash_password(PASSWORD).expect("hashed").to_string();
                assert_eq!(hasher.compare(b"another", &stored), Ok(Comparison::Different));
                let same = hasher.compare(PASSWORD, &stored).expect("compared");
                assert_eq!(same == Comparison::Same, memory == 64, "{memory}: {same:?}");
                assert_ne!(same, Comparison::Different, "{memory}");
            }
        }
        assert_eq!(hasher.memory().iter().map(Vec::len).collect::<Vec<_>>(), [64]);
    }
}
