//! Password attempts, which are throttled per email address.

use service_kit::{clock::Clock, db::Db, ops::config::OnOff, status::ApiError};

use super::hashing::{Comparison, Hashing};
use crate::{
    error,
    model::{login_throttle::ThrottleKey, password::Password},
    store::login_attempts::{self, Outcome},
};

/// Compares passwords with stored hashes, and throttles attempts.
pub struct PasswordAttempts {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: Hashing,
    pub(crate) rate_limits: OnOff,
}

impl PasswordAttempts {
    /// Compares a password with a stored hash. Without a hash, it takes as long and returns [`Comparison::Different`].
    /// If this succeeds, the caller must [record](Self::record) the outcome.
    ///
    /// # Errors
    /// RATE_LIMITED if too many attempts failed or are pending; OVERLOADED if too many passwords wait to be hashed.
    pub async fn compare(
        &self,
        key: &ThrottleKey,
        password: Password,
        stored_hash: Option<String>,
    ) -> Result<Comparison, ApiError> {
        self.check_throttle(key).await?;
        match self.hashing.compare(password, stored_hash).await {
            Ok(comparison) => Ok(comparison),
            Err(error) => {
                self.record(key.clone(), Outcome::NotChecked).await?;
                Err(error)
            }
        }
    }

    /// Records the outcome of an attempt that was permitted.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn record(&self, key: ThrottleKey, outcome: Outcome) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        Ok(login_attempts::record(&self.db, self.clock.now(), key, outcome).await?)
    }

    async fn check_throttle(&self, key: &ThrottleKey) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        let permitted = login_attempts::admit(&self.db, self.clock.now(), key.clone()).await?;
        permitted.map_err(error::too_many_wrong_passwords)
    }
}
