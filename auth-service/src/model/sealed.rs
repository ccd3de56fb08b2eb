//! Secrets that are sealed with keys that are derived from the refresh secrets.

use service_kit::sealing;
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

/// Seals a secret with a key. The text can only be opened for the same purpose and with the same `context`, such as the id
/// of the row in which it is stored.
#[must_use]
pub fn seal(key: &RefreshKey, purpose: Purpose, context: &[u8], secret: &[u8]) -> String {
    sealing::seal(&key.sealing_key(purpose.name()), context, secret)
}

/// Returns the secret in a text that one of the keys has sealed for this purpose and context.
#[must_use]
pub fn open(keys: &RefreshKeys, purpose: Purpose, context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    keys.all().iter().find_map(|key| sealing::open(&key.sealing_key(purpose.name()), context, text))
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
}
