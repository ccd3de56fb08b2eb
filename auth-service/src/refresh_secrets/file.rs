//! The file with the secrets of refresh tokens. A new file contains only one secret, in base64url. A rotation changes it
//! to a JSON object with several secrets.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use service_kit::{
    clock::Timestamp,
    ops::secret_file::{self, Key},
};
use zeroize::Zeroizing;

use crate::model::refresh_token::{RefreshKey, RefreshKeys};

/// Maximum number of secrets in a file. A forged refresh token is compared with each of them.
const MAX_SECRETS: usize = 8;

/// The content of a file. It contains at least one secret, and the first one is not pending.
pub struct SecretFile {
    pub(super) secrets: Vec<Secret>,
}

/// A secret.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) key: Key,
    pub(super) created_at: Option<Timestamp>,
    /// Whether the secret was added by a rotation that has not finished. It has not issued any token yet.
    pub(super) is_pending: bool,
}

/// What may be shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// Identifies the secret without revealing it.
    pub id: String,
    /// When it was created; `None` for the secret of the first start.
    pub created_at: Option<Timestamp>,
    /// Whether it issues tokens.
    pub is_current: bool,
}

/// The JSON form.
#[derive(Deserialize, Serialize)]
struct StoredFile {
    secrets: Vec<StoredSecret>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredSecret {
    secret: Zeroizing<String>,
    /// In microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<i64>,
    #[serde(default)]
    pending: bool,
}

impl SecretFile {
    /// Reads a file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, is accessible to other users, or does not contain secrets. The error does not quote it.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = secret_file::read(path)?;
        let parsed = Self::parse(&text);
        parsed.with_context(|| format!("{} does not contain secrets of refresh tokens", path.display())).map(Some)
    }

    /// Creates a file with a random secret, and returns its content. If the file was created in the meantime, returns
    /// its content.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        secret_file::create_key(path)?;
        Self::read(path)?.with_context(|| format!("{} was deleted", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let stored = if text.trim_start().starts_with('{') {
            // The error of serde_json would quote the secret.
            let parsed = serde_json::from_str::<StoredFile>(text);
            parsed.map_err(|error| anyhow::anyhow!("line {}, column {}", error.line(), error.column()))?.secrets
        } else {
            let secret = Zeroizing::new(text.trim_end().to_owned());
            vec![StoredSecret { secret, create_time: None, pending: false }]
        };
        ensure!(stored.len() <= MAX_SECRETS, "it contains more than {MAX_SECRETS} secrets");
        let parse = |StoredSecret { secret, create_time, pending }: StoredSecret| {
            let key = Key::decode(&secret).context("a secret does not have 32 bytes in base64url")?;
            anyhow::Ok(Secret { key, created_at: create_time.map(Timestamp::from_micros), is_pending: pending })
        };
        let secrets = stored.into_iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(secrets.first().is_some_and(|first| !first.is_pending), "it contains no current secret");
        Ok(Self { secrets })
    }

    /// Replaces the content of a file.
    ///
    /// # Errors
    /// If there are too many secrets, or the file cannot be written.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        ensure!(
            self.secrets.len() <= MAX_SECRETS,
            "there are {MAX_SECRETS} secrets already; remove those that are not needed"
        );
        let stored = self.secrets.iter().map(|secret| StoredSecret {
            secret: secret.key.encode(),
            create_time: secret.created_at.map(Timestamp::as_micros),
            pending: secret.is_pending,
        });
        let json = serde_json::to_string_pretty(&StoredFile { secrets: stored.collect() }).map(Zeroizing::new);
        secret_file::replace(path, &json.context("cannot serialize the secrets")?)
    }

    /// Returns the keys that are derived from the secrets.
    #[must_use]
    pub fn keys(&self) -> RefreshKeys {
        RefreshKeys::new(self.secrets.iter().map(|secret| RefreshKey::new(&secret.key)).collect())
    }

    /// Describes the secrets, in the order of the file.
    #[must_use]
    pub fn describe(&self) -> Vec<SecretInfo> {
        let describe = |(index, secret): (usize, &Secret)| SecretInfo {
            id: RefreshKey::new(&secret.key).id(),
            created_at: secret.created_at,
            is_current: index == 0,
        };
        self.secrets.iter().enumerate().map(describe).collect()
    }
}
