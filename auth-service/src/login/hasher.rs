//! Computes argon2id hashes on the current thread.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Block, Params, RECOMMENDED_SALT_LEN, Version,
    password_hash::{
        Error,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use service_kit::random;

/// Stored hashes with a higher cost are rejected: this service did not create them.
const MAX_MEMORY_KIB: u32 = 1_048_576;
const MAX_PASSES: u32 = 64;

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

/// The memory of finished hashes, which the next ones reuse. If each thread allocated its own, the allocator would retain
/// more than the limit.
#[derive(Default)]
struct MemoryPool {
    buffers: Vec<Vec<Block>>,
    /// Whether a hash has used the pool since the last call of [`Self::free_if_idle`].
    is_used: bool,
}

impl MemoryPool {
    fn free_if_idle(&mut self) {
        if !mem::take(&mut self.is_used) {
            self.buffers.clear();
        }
    }
}

/// Computes hashes on the current thread.
#[derive(Clone)]
pub(super) struct Hasher {
    policy: Params,
    memory_pool: Arc<Mutex<MemoryPool>>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Hasher {
    pub(super) fn new(policy: Params) -> Self {
        Self { policy, memory_pool: Arc::default() }
    }

    /// Returns the hash of a password as a PHC string.
    pub(super) fn hash(&self, password: &[u8]) -> Result<String, Error> {
        let salt = Salt::new(&random::bytes::<RECOMMENDED_SALT_LEN>())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.policy.clone());
        self.to_phc(salt, self.compute(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?)
    }

    /// Returns a PHC string that no password matches, because its hash is random. A comparison takes as long as with
    /// another hash of the policy.
    pub(super) fn dummy_hash(&self) -> Result<String, Error> {
        let salt = Salt::new(&random::bytes::<RECOMMENDED_SALT_LEN>())?;
        self.to_phc(salt, Output::new(&random::bytes::<{ Params::DEFAULT_OUTPUT_LEN }>())?)
    }

    fn to_phc(&self, salt: Salt, hash: Output) -> Result<String, Error> {
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.policy)?,
            salt: Some(salt),
            hash: Some(hash),
        };
        Ok(hash.to_string())
    }

    /// Frees the memory for hashes unless a hash was computed since the last call.
    pub(super) fn free_idle_memory(&self) {
        self.lock_memory_pool().free_if_idle();
    }

    /// Compares with the parameters of the stored hash. If the password matches and the parameters are not those of the
    /// policy, computes a new hash.
    pub(super) fn compare(&self, password: &[u8], stored_hash: &str) -> Result<Comparison, Error> {
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
        let mut memory = self.lock_memory_pool().buffers.pop().unwrap_or_default();
        if memory.len() < blocks {
            memory.resize(blocks, Block::new());
        }
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        argon2.hash_password_into_with_memory(password, salt, output, &mut memory[..])?;
        // Memory for a hash that is larger than the policy's is freed.
        if memory.len() <= self.policy.block_count() {
            let mut pool = self.lock_memory_pool();
            pool.buffers.push(memory);
            pool.is_used = true;
        }
        Ok(Output::new(output)?)
    }

    // Never held while a hash is computed.
    fn lock_memory_pool(&self) -> MutexGuard<'_, MemoryPool> {
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
        assert_eq!(buffers(&hasher), [64]);
    }

    #[test]
    fn dummy_hash_costs_as_much_as_the_hash_of_a_password_and_matches_none() {
        let hasher = Hasher::new(params(64, 2));
        let (dummy_hash, hash) = (hasher.dummy_hash().expect("random"), hasher.hash(PASSWORD).expect("hashed"));
        let prefix = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!((dummy_hash.len(), prefix(&dummy_hash)), (hash.len(), prefix(&hash)));
        assert_ne!(dummy_hash, hasher.dummy_hash().expect("random"));
        assert_eq!(hasher.compare(PASSWORD, &dummy_hash), Ok(Comparison::Different));
    }

    #[test]
    fn memory_is_freed_after_an_interval_without_hashes() {
        let hasher = Hasher::new(params(64, 2));
        let free_if_idle = || {
            hasher.free_idle_memory();
            buffers(&hasher)
        };
        for _ in 0..2 {
            hasher.hash(PASSWORD).expect("hashed");
            assert_eq!(free_if_idle(), [64]);
        }
        assert!(free_if_idle().is_empty());
        hasher.hash(PASSWORD).expect("hashed");
        assert_eq!(buffers(&hasher), [64]);
    }

    /// Returns the numbers of blocks of the pooled buffers.
    fn buffers(hasher: &Hasher) -> Vec<usize> {
        hasher.lock_memory_pool().buffers.iter().map(Vec::len).collect()
    }
}
