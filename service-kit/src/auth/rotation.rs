//! New keys, and how one takes the place of another.

use std::{
    fs::{File, TryLockError},
    path::Path,
    thread,
    time::Duration,
};

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

/// What a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NewKey {
    /// A secret that all services share.
    #[value(name = "HS256")]
    Hs256,
    /// A private key for auth-service; the others need only the public one.
    #[value(name = "EdDSA")]
    EdDsa,
}

impl NewKey {
    /// A random key with a random `kid`.
    fn make(self) -> anyhow::Result<Jwk> {
        let kid = BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>());
        let secret = Zeroizing::new(crate::random::bytes::<32>());
        let encoded = Some(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*secret)));
        Ok(match self {
            Self::Hs256 => Jwk { k: encoded, ..Jwk::new("oct", "HS256", kid) },
            Self::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&*secret).context("cannot make a key")?;
                let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
                Jwk { crv: Some("Ed25519".to_owned()), x: Some(x), d: encoded, ..Jwk::new("OKP", "EdDSA", kid) }
            }
        })
    }

    /// The kind of a key that is there.
    fn like(jwk: &Jwk) -> Self {
        if jwk.kty == "oct" { Self::Hs256 } else { Self::EdDsa }
    }
}

/// Writes a new file with one random key and a random `kid`, with mode 0600.
///
/// # Errors
/// If there is such a file, which is left as it is, or it cannot be written.
pub fn generate(kind: NewKey, path: &Path) -> anyhow::Result<()> {
    secret_file::generate(path, &JwkSet::new(vec![kind.make()?]).write()?)
}

/// Puts a new key of the same kind, or of `kind`, in the place of the one that signs. First the new key is added,
/// so that everyone who verifies learns of it; after `publish_for` it is put first and signs. The keys before it go on
/// verifying until the last token that they may have signed has expired: their `exp` says when, and from then on they
/// are good for nothing, and are taken out by the next rotation.
///
/// At no time is there a token that somebody who reads the file within `publish_for` cannot verify. What a rotation
/// that was interrupted has left behind is thrown away.
///
/// # Errors
/// If the file is not usable or cannot be written, is being rotated already, or a shared key would follow a public one.
pub fn rotate(path: &Path, kind: Option<NewKey>, publish_for: Duration, clock: &Clock) -> anyhow::Result<()> {
    // A link would be replaced by a file.
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let _turn = take_turn(path)?;
    let (mut set, now) = (read(path, clock)?, clock.now());
    set.keys.retain(|key| !key.waiting && key.exp.is_none_or(|end| end > now.as_seconds()));
    let before = NewKey::like(&set.keys[0]);
    let kind = kind.unwrap_or(before);
    anyhow::ensure!(
        (before, kind) != (NewKey::EdDsa, NewKey::Hs256),
        "a shared key cannot follow a public one: services without a key file could not verify its tokens"
    );
    set.keys.push(Jwk { waiting: true, ..kind.make()? });
    secret_file::replace(path, &set.write()?)?;
    thread::sleep(publish_for);

    let (mut set, now) = (read(path, clock)?, clock.now());
    let waiting = set.keys.iter().position(|key| key.waiting);
    let new = set.keys.remove(waiting.with_context(|| format!("{} was changed during the rotation", path.display()))?);
    // Whoever learns of the new key that late signs with the old one until then.
    let last =
        (now + publish_for.max(key_source::PICKED_UP) + claims::MAX_LIFETIME + 2 * claims::LEEWAY).as_seconds() + 1;
    for key in &mut set.keys {
        key.exp = Some(key.exp.map_or(last, |end| end.min(last)));
    }
    set.keys.insert(0, Jwk { waiting: false, ..new });
    secret_file::replace(path, &set.write()?)
}

/// The file as it stands, if the services can use it.
fn read(path: &Path, clock: &Clock) -> anyhow::Result<JwkSet> {
    let keys = KeySet::read(path, clock.now())?;
    anyhow::ensure!(keys.signing().is_some(), "{} holds no private key to rotate", path.display());
    JwkSet::parse(&secret_file::read(path)?)
}

/// Sees to it that a file is rotated once at a time. The folder is locked, since the file itself is replaced.
fn take_turn(path: &Path) -> anyhow::Result<File> {
    let folder = File::open(secret_file::folder_of(path))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => anyhow::bail!("a key file in this folder is being rotated already"),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the folder of the key file"),
    }
}
