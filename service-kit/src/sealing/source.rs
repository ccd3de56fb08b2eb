//! The current keys of a server. Their file is polled, so that a rotation takes effect within seconds.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::task::spawn_blocking;

use super::SealingKeys;
use crate::ops::file_polling;

/// The keys of a file. While the file is unusable, the last valid keys remain in use.
#[derive(Debug)]
pub struct SealingKeySource {
    path: PathBuf,
    current: RwLock<Arc<SealingKeys>>,
}

impl SealingKeySource {
    /// Reads the file. Creates it with a random key if it does not exist.
    ///
    /// # Errors
    /// As [`SealingKeys::open_file`].
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        let keys = SealingKeys::open_file(&path)?;
        Ok(Self { path, current: RwLock::new(Arc::new(keys)) })
    }

    /// Returns the current keys.
    #[must_use]
    pub fn current(&self) -> Arc<SealingKeys> {
        // The lock is held briefly, and never across an await.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Polls the file for as long as it is awaited. Each new error is logged once.
    pub async fn follow(&self) {
        file_polling::poll("sealing keys", || self.reload()).await;
    }

    async fn reload(&self) -> anyhow::Result<()> {
        let path = self.path.clone();
        let keys = spawn_blocking(move || SealingKeys::read(&path)).await??;
        if keys != *self.current() {
            tracing::info!(keys = ?keys.ids(), "the sealing keys have changed");
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
        Ok(())
    }
}
