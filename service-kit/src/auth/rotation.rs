//! Generates and rotates keys.

use std::{path::Path, thread, time::Duration};

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    claims,
    jwk::{Jwk, JwkSet},
    key_source,
    keys::KeySet,
};
use crate::{clock::Clock, ops::secret_file};

/// The kind of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NewKey {
    /// A secret that all services share.
    #[value(name = "HS256")]
    Hs256,
    /// A private key for auth-service; other services need only the public key.
    #[value(name = "EdDSA")]
    EdDsa,
}

impl NewKey {
    /// Generates a random key with a random `kid`.
    fn generate(self) -> anyhow::Result<Jwk> {
        let kid = BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>());
        let secret = Zeroizing::new(crate::random::bytes::<32>());
        let encoded = Some(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*secret)));
        Ok(match self {
            Self::Hs256 => Jwk { k: encoded, ..Jwk::new("oct", "HS256", kid) },
            Self::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&*secret).context("cannot generate a key")?;
                let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
                Jwk { crv: Some("Ed25519".to_owned()), x: Some(x), d: encoded, ..Jwk::new("OKP", "EdDSA", kid) }
            }
        })
    }

    /// Returns the kind of an existing key.
    fn from_jwk(jwk: &Jwk) -> Self {
        if jwk.kty == "oct" { Self::Hs256 } else { Self::EdDsa }
    }
}

/// Writes a new file with one random key and a random `kid`, with mode 0600.
///
/// # Errors
/// If the file already exists, which is then left unchanged, or cannot be written.
pub fn generate(kind: NewKey, path: &Path) -> anyhow::Result<()> {
    secret_file::generate(path, &JwkSet::new(vec![kind.generate()?]).to_json()?)
}

/// Replaces the signing key by a new key of the same kind, or of `kind`. The new key is added to the file first, so
/// that every verifier receives it. After `publish_for` it is moved to the front and signs. The old keys verify tokens
/// until the last one that they may have signed has expired, which is their new `exp`. Expired keys are removed by the
/// next rotation.
///
/// A service that reads the file within `publish_for` can verify every token at any time. The key of an interrupted
/// rotation is removed.
///
/// # Errors
/// If the file is unusable or cannot be written, is already being rotated, or a shared key would follow a public one.
pub fn rotate(path: &Path, kind: Option<NewKey>, publish_for: Duration, clock: &Clock) -> anyhow::Result<()> {
    // A symbolic link would be replaced by a file.
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let _lock = secret_file::lock_folder(path)?;
    let (mut set, now) = (read(path, clock)?, clock.now());
    set.keys.retain(|key| !key.waiting && key.exp.is_none_or(|exp| exp > now.as_seconds()));
    let current_kind = NewKey::from_jwk(&set.keys[0]);
    let kind = kind.unwrap_or(current_kind);
    anyhow::ensure!(
        (current_kind, kind) != (NewKey::EdDsa, NewKey::Hs256),
        "a shared key cannot follow a public one: services without a key file could not verify its tokens"
    );
    set.keys.push(Jwk { waiting: true, ..kind.generate()? });
    secret_file::replace(path, &set.to_json()?)?;
    thread::sleep(publish_for);

    let (mut set, now) = (read(path, clock)?, clock.now());
    let index = set.keys.iter().position(|key| key.waiting);
    let new = set.keys.remove(index.with_context(|| format!("{} was changed during the rotation", path.display()))?);
    // A signer may use the old key until it has read the new one.
    let exp = (now + publish_for.max(key_source::MAX_RELOAD_DELAY) + claims::MAX_LIFETIME + 2 * claims::LEEWAY)
        .as_seconds()
        + 1;
    for key in &mut set.keys {
        key.exp = Some(key.exp.map_or(exp, |old_exp| old_exp.min(exp)));
    }
    set.keys.insert(0, Jwk { waiting: false, ..new });
    secret_file::replace(path, &set.to_json()?)
}

/// Reads the key file, and checks that the services can use it.
fn read(path: &Path, clock: &Clock) -> anyhow::Result<JwkSet> {
    let keys = KeySet::read(path, clock.now())?;
    anyhow::ensure!(keys.signing().is_some(), "{} contains no private key to rotate", path.display());
    JwkSet::parse(&secret_file::read(path)?)
}
