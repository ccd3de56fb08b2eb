//! A key file that is followed: what is written into it counts within seconds, without a restart.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::task::spawn_blocking;

use crate::keys::KeySet;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The keys of a file, as they were when it was last good.
pub struct KeyFile {
    path: PathBuf,
    current: RwLock<Arc<KeySet>>,
}

impl KeyFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`KeySet::read`].
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let current = RwLock::new(Arc::new(KeySet::read(path)?));
        Ok(Self { path: path.to_owned(), current })
    }

    /// The keys in force.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows the file for as long as it is awaited. A file that cannot be used is complained about, and the last
    /// good keys stay in force.
    pub async fn follow(&self) {
        let mut complaint = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let read = spawn_blocking(move || KeySet::read(&path)).await.unwrap_or_else(|error| Err(error.into()));
            match read {
                Ok(keys) if *self.current() != keys => {
                    tracing::info!(file = %self.path.display(), ?keys, "the keys have changed");
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    complaint = None;
                }
                Ok(_) => complaint = None,
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

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).field("current", &self.current()).finish()
    }
}
