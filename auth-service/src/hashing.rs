//! Password hashes: argon2id (RFC 9106), never on an async thread, and never more at once than the machine can bear.

use std::{sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use service_kit::{random, status::Refusal};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Code;

use crate::{config::PasswordArgs, model::password::Password};

/// How many may wait for each one that runs. At some 15 ms a hash the last of them waits a second.
const WAITING_PER_RUNNING: usize = 64;

/// Nobody waits for longer, however slow the machine is: the answer must come before the caller's patience ends.
const WAIT: Duration = Duration::from_secs(4);

/// A stored hash that would cost more than this is not computed: it is not one that we have made.
const MAX_MEMORY_KIB: u32 = 1_048_576;
const MAX_PASSES: u32 = 64;

/// Computes and checks hashes.
#[derive(Clone, Debug)]
pub struct Hashing {
    policy: Argon2<'static>,
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
        let policy = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = args.password_concurrency.map_or(cores.saturating_sub(1).max(1), usize::from);
        let unknown = hash(&policy, &random::bytes::<32>()).map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
        Ok(Self {
            policy,
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(running * (WAITING_PER_RUNNING + 1))),
            unknown: unknown.into(),
        })
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED / OVERLOADED if too many wait, or it would take too long.
    pub async fn turn(&self) -> Result<Turn, Refusal> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| overloaded())?;
        let running = timeout(WAIT, Arc::clone(&self.running).acquire_owned()).await.map_err(|_| overloaded())?;
        Ok(Turn { _running: running.map_err(Refusal::internal)?, _admitted: admitted })
    }

    /// The hash of a new password, as a PHC string.
    ///
    /// # Errors
    /// INTERNAL if it cannot be computed.
    pub async fn hash(&self, turn: Turn, password: Password) -> Result<String, Refusal> {
        let policy = self.policy.clone();
        run(turn, move || hash(&policy, password.as_bytes())).await?.map_err(Refusal::internal)
    }

    /// Compares a password with a stored hash. Without one it takes as long as with one of the policy.
    ///
    /// # Errors
    /// As [`turn`](Self::turn); INTERNAL if the stored hash is not one of ours.
    pub async fn compare(&self, password: Password, stored: Option<String>) -> Result<Comparison, Refusal> {
        let (policy, unknown) = (self.policy.clone(), Arc::clone(&self.unknown));
        let compare = move || match stored {
            Some(stored) => compare(&policy, password.as_bytes(), &stored),
            None => compare(&policy, password.as_bytes(), &unknown).map(|_| Comparison::Different),
        };
        run(self.turn().await?, compare).await?.map_err(Refusal::internal)
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
async fn run<T: Send + 'static>(turn: Turn, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)
}

fn overloaded() -> Refusal {
    let message = "too many passwords wait to be hashed";
    Refusal::new(Code::ResourceExhausted, ErrorReason::Overloaded, message).retry_after(Duration::from_secs(1))
}

fn hash(policy: &Argon2<'_>, password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    policy.hash_password(password).map(|hash| hash.to_string())
}

/// Compares after the parameters of the stored hash, and hashes anew if they are not those of the policy.
fn compare(policy: &Argon2<'_>, password: &[u8], stored: &str) -> Result<Comparison, argon2::password_hash::Error> {
    let parsed = PasswordHash::new(stored)?;
    let params = Params::try_from(&parsed)?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(argon2::password_hash::Error::ParamsInvalid);
    }
    match policy.verify_password(password, &parsed) {
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Comparison::Different),
        Err(error) => Err(error),
        Ok(()) => {
            let wanted = policy.params();
            let same = (params.m_cost(), params.t_cost(), params.p_cost())
                == (wanted.m_cost(), wanted.t_cost(), wanted.p_cost());
            if same { Ok(Comparison::Same) } else { hash(policy, password).map(Comparison::SameAndRehashed) }
        }
    }
}
