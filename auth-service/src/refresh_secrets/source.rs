//! The current secrets of a server. The file is polled, so that a rotation takes effect within seconds.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Context;
use service_kit::ops::file_polling;
use tokio::task::spawn_blocking;

use super::file::SecretFile;
use crate::model::refresh_token::{RefreshKeys, RefreshToken};

/// The keys of refresh tokens. While the file is unusable, the last valid keys remain in use.
pub struct RefreshKeySource {
    path: PathBuf,
    current: RwLock<Arc<RefreshKeys>>,
}

impl RefreshKeySource {
    /// Creates a source with the content of a file.
    #[must_use]
    pub fn new(path: PathBuf, file: &SecretFile) -> Self {
        Self { path, current: RwLock::new(Arc::new(file.keys())) }
    }

    /// Returns the current keys.
    #[must_use]
    pub fn current(&self) -> Arc<RefreshKeys> {
        // The lock is held briefly, and never across an await.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Issues a token with the current key.
    #[must_use]
    pub fn issue(&self, token: RefreshToken) -> String {
        self.current().issue(token)
    }

    /// Returns the content of a token that one of the keys has issued.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<RefreshToken> {
        self.current().open(text)
    }

    /// Polls the file for as long as it is awaited. Each new error is logged once.
    pub async fn follow(&self) {
        file_polling::poll("refresh secrets", || self.reload()).await;
    }

    async fn reload(&self) -> anyhow::Result<()> {
        let path = self.path.clone();
        let file = spawn_blocking(move || SecretFile::read(&path)).await??;
        let keys = file.with_context(|| format!("{} does not exist", self.path.display()))?.keys();
        if keys.ids() != self.current().ids() {
            tracing::info!(secrets = ?keys.ids(), "the refresh secrets have changed");
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
        Ok(())
    }
}
