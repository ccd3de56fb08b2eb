//! The secrets of webhooks, which are encrypted in the database, and encrypted again after a rotation of the key, so that
//! the earlier key can be removed.

use std::time::Duration;

use service_kit::{
    clock::{Clock, Timestamp},
    db::{Db, Error},
    sealing::{SealingKeys, schedule::ResealSchedule, source::SealingKeySource},
    status::ApiError,
};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    error::webhooks_disabled,
    model::webhook::{SealedSecrets, secret::Secret},
    store::webhook_keys::{self, SecretsRow},
};

/// How often the server checks whether the current key has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum number of webhooks in one query.
const BATCH: i64 = 100;

/// Encrypts and decrypts secrets, if the server has keys.
pub(crate) struct WebhookSecrets(Option<SealingKeySource>);

impl WebhookSecrets {
    pub(crate) fn new(keys: Option<SealingKeySource>) -> Self {
        Self(keys)
    }

    /// Encrypts the secret of a webhook.
    ///
    /// # Errors
    /// WEBHOOKS_DISABLED if the server has no key.
    pub(crate) fn seal(&self, owner: Uuid, id: Uuid, secret: &Secret) -> Result<String, ApiError> {
        let keys = self.0.as_ref().ok_or_else(webhooks_disabled)?.current();
        Ok(seal(&keys, owner, id, secret))
    }

    /// Decrypts a secret of a webhook.
    ///
    /// # Errors
    /// WEBHOOKS_DISABLED if the server does not have the key.
    pub(crate) fn open(&self, owner: Uuid, id: Uuid, sealed: &str) -> Result<Secret, ApiError> {
        let keys = self.0.as_ref().map(SealingKeySource::current);
        keys.and_then(|keys| open(&keys, owner, id, sealed)).ok_or_else(webhooks_disabled)
    }

    /// Follows the changes of the key file, and encrypts the secrets of earlier keys, for as long as it is awaited.
    pub(crate) async fn follow(&self, db: &Db, clock: &Clock) {
        let Some(source) = &self.0 else { return std::future::pending().await };
        tokio::join!(source.follow(), reseal_periodically(db, clock, source));
    }
}

async fn reseal_periodically(db: &Db, clock: &Clock, source: &SealingKeySource) {
    let mut schedule = ResealSchedule::default();
    loop {
        let keys = source.current();
        if schedule.is_due(keys.first_id(), clock.uptime())
            && let Err(error) = reseal_all(db, &keys, clock.now()).await
        {
            tracing::warn!(%error, "cannot encrypt the secrets of webhooks with the current key");
            schedule = ResealSchedule::default();
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// Encrypts all secrets of earlier keys. Those whose key was removed cannot be decrypted, and remain.
async fn reseal_all(db: &Db, keys: &SealingKeys, now: Timestamp) -> Result<(), Error> {
    let mut after = (Uuid::nil(), Uuid::nil());
    loop {
        let batch = webhook_keys::sealed_with_others(db, keys.first_id(), after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(()) };
        after = (last.owner_id, last.id);
        for old in batch {
            let Some(new) = reseal(keys, &old, now) else { continue };
            webhook_keys::replace(db, old, new).await?;
        }
    }
}

/// Encrypts the secrets of a webhook with the first key. A previous secret that is not used any more is removed.
fn reseal(keys: &SealingKeys, old: &SecretsRow, now: Timestamp) -> Option<SealedSecrets> {
    let SecretsRow { owner_id, id, secrets } = old;
    let reseal = |sealed: &str| Some(seal(keys, *owner_id, *id, &open(keys, *owner_id, *id, sealed)?));
    let current = reseal(&secrets.current)?;
    let (previous, previous_until) = match secrets.previous_at(now) {
        Some(previous) => (Some(reseal(previous)?), secrets.previous_until),
        None => (None, None),
    };
    Some(SealedSecrets { current, previous, previous_until })
}

fn seal(keys: &SealingKeys, owner: Uuid, id: Uuid, secret: &Secret) -> String {
    keys.seal(&context(owner, id), secret.as_bytes())
}

fn open(keys: &SealingKeys, owner: Uuid, id: Uuid, sealed: &str) -> Option<Secret> {
    keys.open(&context(owner, id), sealed).map(Secret::from_bytes)
}

/// Returns the context of a sealed secret, so that it cannot be opened for another webhook.
fn context(owner: Uuid, id: Uuid) -> Vec<u8> {
    [b"webhook secret", &owner.as_bytes()[..], id.as_bytes()].concat()
}
