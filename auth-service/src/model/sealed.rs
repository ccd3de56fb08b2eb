//! Secrets that are encrypted before they are stored or sent: AES-256-GCM (NIST SP 800-38D) with keys that are derived from
//! the refresh secrets.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::refresh_token::{RefreshKey, RefreshKeys};

/// What a sealed text contains. Texts of one purpose cannot be opened for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The secret of an authenticator app.
    TotpSecret,
    /// The challenge of a login.
    LoginChallenge,
    /// The challenge of a passkey.
    PasskeyChallenge,
    /// The code with which a device polls.
    DeviceCode,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::TotpSecret => "totp secrets",
            Self::LoginChallenge => "login challenges",
            Self::PasskeyChallenge => "passkey challenges",
            Self::DeviceCode => "device codes",
        }
    }
}

/// Encrypts and authenticates a secret. Returns `base64url(nonce ‖ ciphertext ‖ tag)`. The text can only be opened with the
/// same `context`, such as the id of the row in which it is stored.
#[must_use]
pub fn seal(key: &RefreshKey, purpose: Purpose, context: &[u8], secret: &[u8]) -> String {
    let mut sealed = secret.to_vec();
    let nonce = sealing_key(key, purpose).seal_in_place_append_tag(Aad::from(context), &mut sealed);
    let nonce = nonce.expect("the system provides randomness, and the secret is short");
    BASE64_URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &sealed].concat())
}

/// Returns the secret in a text that one of the keys has sealed for this purpose and context.
#[must_use]
pub fn open(keys: &RefreshKeys, purpose: Purpose, context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    keys.all().iter().find_map(|key| {
        let mut secret = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = sealing_key(key, purpose).open_in_place(nonce, Aad::from(context), &mut secret);
        let length = opened.ok()?.len();
        secret.truncate(length);
        Some(secret)
    })
}

fn sealing_key(key: &RefreshKey, purpose: Purpose) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, &key.sealing_key(purpose.name())).expect("the key has 32 bytes")
}

#[cfg(test)]
mod tests {
    use service_kit::ops::secret_file::Key;

    use super::*;

    fn keys(secrets: &[&Key]) -> RefreshKeys {
        RefreshKeys::new(secrets.iter().map(|secret| RefreshKey::new(secret)).collect())
    }

    fn opened(keys: &RefreshKeys, purpose: Purpose, context: &[u8], text: &str) -> Option<Vec<u8>> {
        open(keys, purpose, context, text).map(|secret| secret.to_vec())
    }

    #[test]
    fn sealed_secrets_belong_to_one_purpose_and_context() {
        let keys = keys(&[&Key::random()]);
        let text = seal(keys.first(), Purpose::TotpSecret, b"row", b"secret");
        assert_eq!(opened(&keys, Purpose::TotpSecret, b"row", &text), Some(b"secret".to_vec()));
        assert_eq!(opened(&keys, Purpose::LoginChallenge, b"row", &text), None);
        assert_eq!(opened(&keys, Purpose::TotpSecret, b"other row", &text), None);
        assert_ne!(text, seal(keys.first(), Purpose::TotpSecret, b"row", b"secret"), "the nonce is random");
    }

    #[test]
    fn earlier_keys_open_until_they_are_removed() {
        let (old, new) = (Key::random(), Key::random());
        let text = seal(keys(&[&old]).first(), Purpose::TotpSecret, b"", b"secret");
        assert!(opened(&keys(&[&new, &old]), Purpose::TotpSecret, b"", &text).is_some());
        assert!(opened(&keys(&[&new]), Purpose::TotpSecret, b"", &text).is_none());
    }

    #[test]
    fn modified_texts_are_refused() {
        let keys = keys(&[&Key::random()]);
        let text = seal(keys.first(), Purpose::LoginChallenge, b"", b"secret");
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(opened(&keys, Purpose::LoginChallenge, b"", &changed), None, "character {index}");
        }
        for other in ["", "A", &text[1..], &format!("{text}A"), &format!("{text}="), "ü"] {
            assert_eq!(opened(&keys, Purpose::LoginChallenge, b"", other), None, "{other}");
        }
    }
}
