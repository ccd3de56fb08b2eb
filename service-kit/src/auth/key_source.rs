//! Where the keys of access tokens come from: a file that is followed, so that what is written into it counts within
//! seconds and without a restart, or the feed of auth-service.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use taskey_proto::auth::v1::JwkSet;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{auth::keys::KeySet, clock::Clock};

/// How often files are looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// For so long a service may go on with the keys that a file held before it was changed.
pub const PICKED_UP: Duration = Duration::from_secs(5);

/// What the keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To sign tokens, too.
    Sign,
    /// To verify them only; public keys will do.
    Verify,
}

/// The keys, as they were when their source was last good.
#[derive(Debug)]
pub struct KeySource {
    /// `None` where they come with the feed.
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
        let enough = self.purpose == Purpose::Verify || keys.signing().is_some();
        anyhow::ensure!(enough, "the first key of {} is a public one, which cannot sign", self.path.display());
        Ok(keys)
    }
}

impl KeySource {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// As [`KeySet::read`], or if the first key is to sign and cannot.
    pub fn file(path: &Path, purpose: Purpose, clock: Clock) -> anyhow::Result<Self> {
        let file = KeyFile { path: path.to_owned(), purpose, clock };
        let current = watch::Sender::new(Some(Arc::new(file.read()?)));
        Ok(Self { file: Some(file), current })
    }

    /// Public keys that come with the feed of auth-service; there are none before the first message.
    #[must_use]
    pub fn feed() -> Self {
        Self { file: None, current: watch::Sender::new(None) }
    }

    /// The keys in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.borrow().clone()
    }

    /// The keys in force, now and whenever they change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<KeySet>>> {
        self.current.subscribe()
    }

    /// Takes the public keys that came with the feed, unless there is a file.
    ///
    /// # Errors
    /// If they are not usable. The last good ones stay in force.
    pub fn hear(&self, public: &JwkSet) -> anyhow::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        anyhow::ensure!(
            !public.keys.is_empty(),
            "the peer signs with a shared key, which this service needs a file for"
        );
        self.replace(KeySet::from_public(public).context("the peer has sent unusable public keys")?);
        Ok(())
    }

    fn replace(&self, keys: KeySet) {
        self.current.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&keys);
            if changed {
                tracing::info!(?keys, "the keys of access tokens");
                *current = Some(Arc::new(keys));
            }
            changed
        });
    }

    /// Follows the file, if there is one, for as long as it is awaited. A file that cannot be used is complained about,
    /// and the last good keys stay in force.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut complaint = None;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let file = file.clone();
            let read = spawn_blocking(move || file.read()).await.unwrap_or_else(|error| Err(error.into()));
            match read {
                Ok(keys) => {
                    self.replace(keys);
                    complaint = None;
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if complaint.as_ref() != Some(&text) {
                        tracing::error!(error = text, "the last good keys stay in force");
                        complaint = Some(text);
                    }
                }
            }
        }
    }
}
