//! Secrets that are encrypted before they are stored or sent: AES-256-GCM (NIST SP 800-38D).

use std::path::Path;

use anyhow::{Context, ensure};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::ops::secret_file::{self, Key};

pub mod schedule;
pub mod source;

/// Maximum number of keys in a file.
const MAX_KEYS: usize = 8;

/// The number of bytes of an id of a key.
const ID_BYTES: usize = 6;

/// Encrypts and authenticates a secret. Returns `base64url(nonce ‖ ciphertext ‖ tag)`. The text can only be opened with the
/// same `context`, such as the id of the row in which it is stored.
///
/// # Panics
/// If the system provides no randomness, because nothing can be encrypted then.
#[must_use]
pub fn seal(key: &[u8; 32], context: &[u8], secret: &[u8]) -> String {
    let mut sealed = secret.to_vec();
    let nonce = sealing_key(key).seal_in_place_append_tag(Aad::from(context), &mut sealed);
    let nonce = nonce.expect("the system provides randomness, and the secret is short");
    BASE64_URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &sealed].concat())
}

/// Returns the secret in a text that the key has sealed for this context.
#[must_use]
pub fn open(key: &[u8; 32], context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut secret = Zeroizing::new(sealed.to_vec());
    let length = sealing_key(key).open_in_place(nonce, Aad::from(context), &mut secret).ok()?.len();
    secret.truncate(length);
    Some(secret)
}

fn sealing_key(key: &[u8; 32]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("the key has 32 bytes")
}

/// The keys of a file: the first one seals, and all of them open. A rotation adds a new first line.
#[derive(Debug, PartialEq, Eq)]
pub struct SealingKeys(Vec<(String, Key)>);

impl SealingKeys {
    /// Reads a file with 1 to 8 keys of 32 bytes in base64url, one per line. Creates the file with a random key if it does
    /// not exist.
    ///
    /// # Errors
    /// If the file cannot be read or created, is accessible to other users, or does not contain keys. The error does not
    /// quote it.
    pub fn open_file(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            secret_file::create_key(path)?;
        }
        Self::read(path)
    }

    /// Reads a file as [`Self::open_file`], but does not create it.
    ///
    /// # Errors
    /// As [`Self::open_file`], or if the file does not exist.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = secret_file::read(path)?;
        Self::parse(&text).with_context(|| format!("{} does not contain sealing keys", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let parse = |line: &str| Key::decode(line.trim()).context("a line is not a key of 32 bytes in base64url");
        let keys = text.lines().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!((1..=MAX_KEYS).contains(&keys.len()), "it must contain 1 to {MAX_KEYS} lines");
        Ok(Self(keys.into_iter().map(|key| (id(&key), key)).collect()))
    }

    /// Returns the ids of the keys, which do not reveal them. The first one seals.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|(id, _)| id.as_str()).collect()
    }

    /// Returns the id of the key that seals.
    #[must_use]
    pub fn first_id(&self) -> &str {
        let (id, _) = self.first();
        id
    }

    fn first(&self) -> &(String, Key) {
        self.0.first().expect("a file has at least one key")
    }

    /// Seals a secret with the first key. The text begins with the id of the key.
    ///
    /// # Panics
    /// As [`seal`].
    #[must_use]
    pub fn seal(&self, context: &[u8], secret: &[u8]) -> String {
        let (id, key) = self.first();
        format!("{id}.{}", seal(key_bytes(key), context, secret))
    }

    /// Returns the secret in a text that one of the keys has sealed for this context.
    #[must_use]
    pub fn open(&self, context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (id, sealed) = text.split_once('.')?;
        let (_, key) = self.0.iter().find(|(key_id, _)| key_id == id)?;
        open(key_bytes(key), context, sealed)
    }
}

fn key_bytes(key: &Key) -> &[u8; 32] {
    key.as_bytes().try_into().expect("a key has 32 bytes")
}

/// Returns the id of a key, which does not reveal it: the MAC of a constant message.
fn id(key: &Key) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), b"taskey sealing key id");
    BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..ID_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[&Key]) -> SealingKeys {
        let lines: Vec<_> = lines.iter().map(|key| key.encode().to_string()).collect();
        SealingKeys::parse(&lines.join("\n")).expect("valid keys")
    }

    #[test]
    fn a_sealed_secret_belongs_to_one_context() {
        let keys = keys(&[&Key::random()]);
        let text = keys.seal(b"row", b"secret");
        assert_eq!(keys.open(b"row", &text).map(|secret| secret.to_vec()), Some(b"secret".to_vec()));
        assert!(keys.open(b"other row", &text).is_none());
        assert_ne!(text, keys.seal(b"row", b"secret"), "the nonce is random");
    }

    #[test]
    fn earlier_keys_open_until_they_are_removed() {
        let (old, new) = (Key::random(), Key::random());
        let text = keys(&[&old]).seal(b"", b"secret");
        let both = keys(&[&new, &old]);
        assert!(both.open(b"", &text).is_some());
        assert!(keys(&[&new]).open(b"", &both.seal(b"", b"secret")).is_some(), "the first key seals");
        assert!(keys(&[&new]).open(b"", &text).is_none());
    }

    #[test]
    fn a_modified_text_is_refused() {
        let keys = keys(&[&Key::random()]);
        let text = keys.seal(b"", b"secret");
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(keys.open(b"", &changed).is_none(), "character {index}");
        }
        for other in ["", ".", "A", &text[1..], &format!("{text}A"), &format!("{text}="), "ü"] {
            assert!(keys.open(b"", other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_file_is_created_once_and_must_contain_keys() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("sealing.key");
        let text = SealingKeys::open_file(&path).expect("it is created").seal(b"", b"secret");
        assert!(SealingKeys::open_file(&path).expect("it exists").open(b"", &text).is_some());
        let too_many = vec![Key::random().encode().to_string(); 9].join("\n");
        for invalid in ["", "short", &too_many] {
            assert!(SealingKeys::parse(invalid).is_err());
        }
    }
}
