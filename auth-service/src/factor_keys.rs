//! Encrypts the secrets of factors with the current key after a rotation of the refresh secret, so that the earlier one can
//! be removed.

use std::time::Duration;

use service_kit::{
    clock::Clock,
    db::{Db, Error},
    sealing::schedule::ResealSchedule,
};
use uuid::Uuid;

use crate::{
    model::{factor::SealedTotp, refresh_token::RefreshKeys},
    refresh_secrets::RefreshKeySource,
    store::factor_keys,
};

/// How often the server checks whether the current key has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum number of secrets in one query.
const BATCH: i64 = 100;

/// Encrypts the secrets of earlier keys for as long as it is awaited.
pub async fn follow(db: &Db, clock: &Clock, keys: &RefreshKeySource) {
    let mut schedule = ResealSchedule::default();
    loop {
        let keys = keys.current();
        if schedule.is_due(&keys.first().id(), clock.uptime())
            && let Err(error) = reseal_all(db, &keys).await
        {
            tracing::warn!(%error, "cannot encrypt the secrets of factors with the current key");
            schedule = ResealSchedule::default();
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Encrypts all secrets of earlier keys. Those whose key was removed cannot be decrypted, and remain.
async fn reseal_all(db: &Db, keys: &RefreshKeys) -> Result<(), Error> {
    let key_id = keys.first().id();
    let mut after = Uuid::nil();
    loop {
        let batch = factor_keys::sealed_with_others(db, &key_id, after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(()) };
        after = last.factor_id;
        for old in batch {
            let Some(secret) = old.open(keys) else { continue };
            let new = SealedTotp::seal(keys, old.factor_id, old.user_id, &secret);
            factor_keys::replace(db, old, new, key_id.clone()).await?;
        }
    }
}
