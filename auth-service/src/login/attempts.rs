//! Password attempts, which are throttled per account and network.

use std::net::IpAddr;

use quick_cache::sync::Cache;
use service_kit::{clock::Clock, db::Db, ops::config::OnOff, status::ApiError};
use uuid::Uuid;

use super::{
    hasher::Comparison,
    hashing::Hashing,
    in_progress::{InProgress, Permit},
};
use crate::{
    error,
    model::{
        client_info::ClientInfo,
        login_throttle::{ThrottleKey, day, lock_duration},
        password::Password,
    },
    store::{
        login_attempts::{self, Attempt},
        users,
    },
};

/// Maximum number of networks that are remembered as recorded today. Others are recorded again, without an effect.
const MAX_RECORDED_NETWORKS: usize = 16_384;

/// Compares passwords with stored hashes, and throttles attempts.
pub struct PasswordAttempts {
    db: Db,
    clock: Clock,
    pub(crate) hashing: Hashing,
    rate_limits: OnOff,
    in_progress: InProgress,
    /// The days on which networks were last recorded as used.
    recorded_networks: Cache<ThrottleKey, i64>,
}

/// An attempt that was permitted. While it exists, it counts as in progress.
pub struct PermittedAttempt {
    /// `None` if attempts are not throttled.
    pub(crate) attempt: Option<Attempt>,
    /// Whether the account was used from the network of the client recently; also true if that is not recorded.
    pub(crate) is_from_known_network: bool,
    /// Whether its counter has counted a wrong secret since the last correct one.
    has_failures: bool,
    _permit: Option<Permit>,
}

impl PermittedAttempt {
    /// Returns an attempt that is neither throttled nor counted.
    #[must_use]
    pub fn unthrottled(is_from_known_network: bool) -> Self {
        Self { attempt: None, is_from_known_network, has_failures: false, _permit: None }
    }
}

impl PasswordAttempts {
    /// Creates the throttle.
    #[must_use]
    pub fn new(db: Db, clock: Clock, hashing: Hashing, rate_limits: OnOff) -> Self {
        let recorded_networks = Cache::new(MAX_RECORDED_NETWORKS);
        Self { db, clock, hashing, rate_limits, in_progress: InProgress::new(), recorded_networks }
    }

    /// Compares the password of an account with a stored hash. Without a hash, it takes as long and returns
    /// [`Comparison::Different`].
    /// If this succeeds, the caller must record the outcome before it drops the attempt.
    ///
    /// # Errors
    /// RATE_LIMITED if too many attempts failed or are in progress; OVERLOADED if too many passwords wait to be hashed.
    pub async fn compare(
        &self,
        email: &str,
        client: &ClientInfo,
        password: Password,
        stored_hash: Option<String>,
    ) -> Result<(Comparison, PermittedAttempt), ApiError> {
        let attempt = self.permit(email, client).await?;
        Ok((self.hashing.compare(client.rate_limit_key(), password, stored_hash).await?, attempt))
    }

    /// Permits an attempt with another secret than the password, such as a mailed code, which counts like a password. The
    /// caller must record the outcome before it drops the attempt.
    ///
    /// # Errors
    /// RATE_LIMITED if too many attempts failed or are in progress.
    pub async fn permit(&self, email: &str, client: &ClientInfo) -> Result<PermittedAttempt, ApiError> {
        self.admit(ThrottleKey::new(email, client.address)).await
    }

    /// Counts a wrong password.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit has been reached since the attempt was permitted; STORE_UNAVAILABLE.
    pub async fn record_failure(&self, attempt: &PermittedAttempt) -> Result<(), ApiError> {
        let Some(attempt) = &attempt.attempt else { return Ok(()) };
        let now = self.clock.now();
        let is_recorded = login_attempts::record_failure(&self.db, now, attempt).await?;
        if is_recorded { Ok(()) } else { Err(error::too_many_wrong_passwords(lock_duration(now))) }
    }

    /// Records a correct password, unless that is part of another transaction.
    ///
    /// # Errors
    /// As [`record_failure`](Self::record_failure).
    pub async fn record_success(&self, attempt: &PermittedAttempt) -> Result<(), ApiError> {
        let Some(attempt) = &attempt.attempt else { return Ok(()) };
        let now = self.clock.now();
        let is_recorded = login_attempts::record_success(&self.db, now, attempt.clone()).await?;
        if is_recorded { Ok(()) } else { Err(error::too_many_wrong_passwords(lock_duration(now))) }
    }

    /// Records the correct secret of a program. Writes only if a wrong one is counted, because programs send their secrets
    /// often.
    ///
    /// # Errors
    /// As [`record_failure`](Self::record_failure).
    pub async fn reset_failures(&self, attempt: PermittedAttempt) -> Result<(), ApiError> {
        if attempt.has_failures { self.record_success(&attempt).await } else { Ok(()) }
    }

    /// Records that an account is used from the network of a client, at most once a day. Errors are only logged.
    pub async fn record_use(&self, email: &str, client: Option<IpAddr>) {
        let (key, now) = (ThrottleKey::new(email, client), self.clock.now());
        let is_recorded = self.recorded_networks.get(&key) == Some(day(now));
        if self.rate_limits == OnOff::Off || client.is_none() || is_recorded {
            return;
        }
        match login_attempts::add_network(&self.db, now, key.clone()).await {
            Ok(()) => self.recorded_networks.insert(key, day(now)),
            Err(error) => tracing::warn!(%error, "cannot record the network of an account"),
        }
    }

    /// Reports whether an account was used from the network of a client recently; true if that is not recorded.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn is_known_network(&self, email: &str, client: Option<IpAddr>) -> Result<bool, ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(true);
        }
        let key = ThrottleKey::new(email, client);
        let (counter, _) = key.counter(login_attempts::counters(&self.db, &key).await?, self.clock.now());
        Ok(counter == key)
    }

    /// Stores the new hash of a correct password, if there is one. Errors are only logged, because the old hash remains
    /// valid.
    pub async fn rehash(&self, user_id: Uuid, old_hash: String, comparison: Comparison) {
        if let Comparison::SameAndRehashed(new_hash) = comparison
            && let Err(error) = users::rehash(&self.db, user_id, old_hash, new_hash).await
        {
            tracing::warn!(%error, "cannot replace a password hash of another cost");
        }
    }

    async fn admit(&self, key: ThrottleKey) -> Result<PermittedAttempt, ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(PermittedAttempt::unthrottled(true));
        }
        let permit = self.in_progress.acquire(&self.check_throttle(&key).await?.0).await?;
        // Since the first check, other attempts may have failed, or made the network known. A permit is returned after the
        // outcome is recorded, so that no more attempts than permits pass this check before the first failure is seen.
        let (counter, has_failures) = self.check_throttle(&key).await?;
        let attempt = Attempt { key, counter };
        let is_from_known_network = attempt.is_from_known_network();
        Ok(PermittedAttempt { attempt: Some(attempt), is_from_known_network, has_failures, _permit: Some(permit) })
    }

    /// Returns the counter of an attempt if it is permitted now, and whether it counts a failure.
    async fn check_throttle(&self, key: &ThrottleKey) -> Result<(ThrottleKey, bool), ApiError> {
        let (rows, now) = (login_attempts::counters(&self.db, key).await?, self.clock.now());
        let (counter, throttle) = key.counter(rows, now);
        let has_failures = throttle.as_ref().is_some_and(|throttle| throttle.failures > 0);
        match throttle.map(|throttle| throttle.remaining_delay(now)) {
            Some(delay) if !delay.is_zero() => Err(error::too_many_wrong_passwords(delay)),
            _ => Ok((counter, has_failures)),
        }
    }
}
