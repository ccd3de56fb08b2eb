//! The file with the tokens of a session.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context;
use etcetera::base_strategy::{BaseStrategy, Xdg};
use serde::{Deserialize, Serialize};
use service_kit::{clock::Timestamp, ops::secret_file};
use tokio::{sync::oneshot, time::timeout};
use zeroize::Zeroizing;

use super::args::InstallationArgs;

/// How long to wait for another process. It is longer than all attempts of a process to refresh a token.
const LOCK_LIMIT: Duration = Duration::from_secs(40);

/// How long an access token must be valid to be used.
const MIN_VALIDITY: Duration = Duration::from_secs(30);

/// The tokens of a session. The file contains them in JSON.
#[derive(Deserialize, Serialize)]
pub struct StoredSession {
    /// The URL of the installation, because its tokens must not be sent to another one.
    pub url: String,
    /// The access token.
    pub access_token: Zeroizing<String>,
    /// When the access token expires by the clock of this machine, in seconds since the Unix epoch.
    pub access_expire_time: i64,
    /// The refresh token.
    pub refresh_token: Zeroizing<String>,
}

impl StoredSession {
    /// Reports whether the access token can be used at this time, and for a while.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        Timestamp::from_seconds(self.access_expire_time) >= now + MIN_VALIDITY
    }
}

/// The file for an installation.
pub struct TokenStore {
    path: PathBuf,
    url: String,
}

impl TokenStore {
    /// Returns the store of an installation. The file does not have to exist.
    ///
    /// # Errors
    /// If no file is configured and the user has no home directory.
    pub fn new(installation: &InstallationArgs) -> anyhow::Result<Self> {
        let path = if let Some(path) = &installation.token_file {
            path.clone()
        } else {
            let folders = Xdg::new().context("the home directory is unknown: use --token-file")?;
            folders.config_dir().join("taskey").join(installation.file_name())
        };
        Ok(Self { path, url: installation.name() })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// If other users can access it, or it does not contain the tokens of this installation.
    pub fn read(&self) -> anyhow::Result<Option<StoredSession>> {
        let name = self.path.display();
        if !self.path.try_exists().with_context(|| format!("cannot read {name}"))? {
            return Ok(None);
        }
        let text = secret_file::read(&self.path)?;
        // The error of the parser could quote a token.
        let session: Option<StoredSession> = serde_json::from_str(&text).ok();
        let session = session.with_context(|| format!("{name} contains no tokens: delete it, and log in again"))?;
        anyhow::ensure!(
            session.url == self.url,
            "{name} contains the tokens for {}, not for {}: use another --url or --token-file",
            session.url,
            self.url
        );
        Ok(Some(session))
    }

    /// Locks the file, so that no other process refreshes the token or writes the file in the meantime. The system
    /// releases the lock if the process ends. The token file is replaced by each write, so the lock is on another file.
    ///
    /// # Errors
    /// If the lock file cannot be created, or another process does not release it in time.
    pub async fn lock(self) -> anyhow::Result<LockedStore> {
        let path = self.path.with_added_extension("lock");
        let file = create_lock_file(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let (sender, lock) = oneshot::channel();
        // The runtime would wait for a thread of `spawn_blocking` at the end of the program.
        let wait = move || _ = sender.send(file.lock().map(|()| file));
        thread::Builder::new().name("lock".to_owned()).spawn(wait)?;
        let lock = timeout(LOCK_LIMIT, lock).await.with_context(|| {
            let limit = LOCK_LIMIT.as_secs();
            format!("another `taskey token` has locked {} for more than {limit} s: end it", path.display())
        })?;
        let lock = lock?.with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(LockedStore { store: self, _lock: lock })
    }
}

fn create_lock_file(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A store that no other process changes until the value is dropped.
pub struct LockedStore {
    store: TokenStore,
    _lock: File,
}

impl LockedStore {
    /// Reads the file, as [`TokenStore::read`].
    ///
    /// # Errors
    /// As [`TokenStore::read`].
    pub fn read(&self) -> anyhow::Result<Option<StoredSession>> {
        self.store.read()
    }

    /// Writes the file atomically, with mode 0600.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, session: &StoredSession) -> anyhow::Result<()> {
        let json = Zeroizing::new(serde_json::to_string_pretty(session)?);
        let path = &self.store.path;
        if path.exists() { secret_file::replace(path, &json) } else { secret_file::generate(path, &json) }
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete(&self) -> anyhow::Result<()> {
        let path = &self.store.path;
        fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))
    }
}
