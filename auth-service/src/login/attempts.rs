//! Attempts at passwords, which are limited for each account.

use service_kit::{clock::Clock, db::Db, ops::config::OnOff, status::ApiError};

use super::hashing::{Comparison, Hashing};
use crate::{
    error,
    model::{login_throttle::ThrottleKey, password::Password},
    store::login_attempts::{self, Outcome},
};

/// Checks passwords.
pub struct PasswordAttempts {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: Hashing,
    pub(crate) rate_limits: OnOff,
}

impl PasswordAttempts {
    /// Compares a password with a stored hash, unless too many attempts have failed. Without a hash it takes as long and
    /// is different. Afterwards the caller [records](Self::record) the outcome.
    ///
    /// # Errors
    /// RATE_LIMITED or OVERLOADED.
    pub async fn compare(
        &self,
        key: &ThrottleKey,
        password: Password,
        stored: Option<String>,
    ) -> Result<Comparison, ApiError> {
        self.admit(key).await?;
        match self.hashing.compare(password, stored).await {
            Ok(comparison) => Ok(comparison),
            Err(error) => {
                self.record(key.clone(), Outcome::Unknown).await?;
                Err(error)
            }
        }
    }

    /// Records the outcome of an attempt that was admitted.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn record(&self, key: ThrottleKey, outcome: Outcome) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        Ok(login_attempts::record(&self.db, self.clock.now(), key, outcome).await?)
    }

    async fn admit(&self, key: &ThrottleKey) -> Result<(), ApiError> {
        if self.rate_limits == OnOff::Off {
            return Ok(());
        }
        let admitted = login_attempts::admit(&self.db, self.clock.now(), key.clone()).await?;
        admitted.map_err(error::too_many_guesses)
    }
}
