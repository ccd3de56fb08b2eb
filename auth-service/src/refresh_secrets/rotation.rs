//! Rotates the secrets of refresh tokens, without ending sessions.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context, ensure};
use service_kit::{
    clock::Clock,
    ops::secret_file::{self, Key},
};

use super::file::{Secret, SecretFile};
use crate::model::refresh_token::RefreshKey;

/// Adds a new secret, and lets it issue tokens after `publish_for`, when all servers accept its tokens. The earlier
/// secrets remain valid. The secret of an interrupted rotation is removed. Returns the id of the new secret.
///
/// # Errors
/// If the file does not exist, is unusable or cannot be written, or is already being rotated.
pub fn rotate(path: &Path, publish_for: Duration, clock: &Clock) -> anyhow::Result<String> {
    // A symbolic link would be replaced by a file.
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let _lock = secret_file::lock_folder(path)?;
    let mut file = read(path)?;
    file.secrets.retain(|secret| !secret.is_pending);
    file.secrets.push(Secret { key: Key::random(), created_at: Some(clock.now()), is_pending: true });
    file.write(path)?;
    thread::sleep(publish_for);

    let mut file = read(path)?;
    let index = file.secrets.iter().position(|secret| secret.is_pending);
    let index = index.with_context(|| format!("{} was changed during the rotation", path.display()))?;
    let new = Secret { is_pending: false, ..file.secrets.remove(index) };
    let id = RefreshKey::new(&new.key).id();
    file.secrets.insert(0, new);
    file.write(path)?;
    Ok(id)
}

/// Removes an earlier secret. Sessions whose refresh tokens it has issued end. `stored` is the fingerprint of the secret
/// that servers have used last.
///
/// # Errors
/// If there is no such secret, it issues tokens, or the file is unusable or cannot be written.
pub fn remove(path: &Path, id: &str, stored: Option<&str>) -> anyhow::Result<()> {
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let _lock = secret_file::lock_folder(path)?;
    let mut file = read(path)?;
    let index = file.describe().iter().position(|secret| secret.id == id);
    let index = index.with_context(|| format!("{} has no secret {id:?}", path.display()))?;
    ensure!(index > 0, "the secret {id} issues tokens; rotate the secrets first");
    let removed = file.secrets.remove(index);
    ensure!(
        stored.is_none_or(|stored| stored != RefreshKey::new(&removed.key).fingerprint()),
        "no server has used the new secret yet; start one, or wait a few seconds"
    );
    file.write(path)
}

fn read(path: &Path) -> anyhow::Result<SecretFile> {
    SecretFile::read(path)?.with_context(|| format!("{} does not exist", path.display()))
}
