//! The source of the keys of access tokens: a file, which is polled so that changes take effect within seconds and
//! without a restart, or the feed of auth-service.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use taskey_proto::auth::v1::JwkSet;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{auth::keys::KeySet, clock::Clock, ops::file_polling};

/// Maximum time for which a service uses the previous keys after a key file has changed.
pub const MAX_RELOAD_DELAY: Duration = Duration::from_secs(5);

/// What the keys are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signing and verifying tokens.
    Sign,
    /// Verifying tokens only. Public keys are sufficient.
    Verify,
}

/// The current keys. While the source is unusable, the last valid keys remain in use.
#[derive(Debug)]
pub struct KeySource {
    /// `None` if the keys are received with the feed.
    file: Option<KeyFile>,
    current: watch::Sender<Option<Arc<KeySet>>>,
}

#[derive(Clone, Debug)]
struct KeyFile {
    path: PathBuf,
    purpose: Purpose,
    clock: Clock,
}

impl KeyFile {
    fn read(&self) -> anyhow::Result<KeySet> {
        let keys = KeySet::read(&self.path, self.clock.now())?;
        let is_sufficient = self.purpose == Purpose::Verify || keys.signing().is_some();
        anyhow::ensure!(is_sufficient, "the first key in {} is a public key, which cannot sign", self.path.display());
        Ok(keys)
    }
}

impl KeySource {
    /// Creates a source that reads the keys from a file.
    ///
    /// # Errors
    /// As [`KeySet::read`], or if `purpose` is [`Purpose::Sign`] and the first key cannot sign.
    pub fn file(path: &Path, purpose: Purpose, clock: Clock) -> anyhow::Result<Self> {
        let file = KeyFile { path: path.to_owned(), purpose, clock };
        let current = watch::Sender::new(Some(Arc::new(file.read()?)));
        Ok(Self { file: Some(file), current })
    }

    /// Creates a source of public keys from the feed of auth-service. It has no keys before the first message.
    #[must_use]
    pub fn feed() -> Self {
        Self { file: None, current: watch::Sender::new(None) }
    }

    /// Returns the current keys, or `None` if none have been received yet.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.borrow().clone()
    }

    /// Returns a receiver of the current keys, which is notified when they change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<KeySet>>> {
        self.current.subscribe()
    }

    /// Replaces the keys by the public keys from the feed, unless the keys come from a file.
    ///
    /// # Errors
    /// If the keys are unusable. The last valid keys remain in use.
    pub fn receive(&self, public: &JwkSet) -> anyhow::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        anyhow::ensure!(!public.keys.is_empty(), "the peer signs with a shared key, so this service needs a key file");
        self.replace(KeySet::from_public(public).context("the peer sent unusable public keys")?);
        Ok(())
    }

    fn replace(&self, keys: KeySet) {
        self.current.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&keys);
            if changed {
                tracing::info!(?keys, "the keys of access tokens have changed");
                *current = Some(Arc::new(keys));
            }
            changed
        });
    }

    /// Polls the file, if there is one, for as long as it is awaited. While the file is unusable, the last valid keys
    /// remain in use, and each new error is logged once.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        file_polling::poll("keys of access tokens", || self.reload(file)).await;
    }

    async fn reload(&self, file: &KeyFile) -> anyhow::Result<()> {
        let file = file.clone();
        self.replace(spawn_blocking(move || file.read()).await??);
        Ok(())
    }
}
