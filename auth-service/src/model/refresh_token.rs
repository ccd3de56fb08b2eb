//! Refresh tokens. They are derived, not stored: a stolen database contains none, and forged tokens are rejected
//! without a query.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::ops::secret_file;
use uuid::Uuid;

const PAYLOAD_BYTES: usize = 16 + 8;
const TAG_BYTES: usize = 32;

/// Length of the id of a key.
const ID_BYTES: usize = 5;

/// A key of refresh tokens, which only auth-service has.
pub struct RefreshKey(hmac::Key);

/// The keys of all refresh tokens: the first one issues tokens, and all of them open tokens.
pub struct RefreshKeys(Vec<RefreshKey>);

impl RefreshKeys {
    /// Creates a set of keys. There must be at least one.
    #[must_use]
    pub fn new(keys: Vec<RefreshKey>) -> Self {
        Self(keys)
    }

    /// Returns the key that issues tokens.
    #[must_use]
    pub fn first(&self) -> &RefreshKey {
        self.0.first().expect("there is at least one key")
    }

    /// Returns the keys that only open tokens.
    #[must_use]
    pub fn others(&self) -> &[RefreshKey] {
        &self.0[1..]
    }

    /// Returns all keys.
    #[must_use]
    pub fn all(&self) -> &[RefreshKey] {
        &self.0
    }

    /// Returns the ids of the keys.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(RefreshKey::id).collect()
    }

    /// Issues a token, as [`RefreshKey::issue`].
    #[must_use]
    pub fn issue(&self, token: RefreshToken) -> String {
        self.first().issue(token)
    }

    /// Returns the content of a token that one of the keys has issued.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<RefreshToken> {
        self.0.iter().find_map(|key| key.open(text))
    }
}

/// The content of an authentic refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The session that the token refreshes.
    pub session_id: Uuid,
    /// The number of rotations of the session so far. Only the latest generation is valid.
    pub generation: i64,
}

impl RefreshKey {
    /// Derives the key from its secret.
    #[must_use]
    pub fn new(secret: &secret_file::Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Returns the key of page tokens, which all replicas share. It is the MAC of a constant message with this key.
    #[must_use]
    pub fn page_token_key(&self) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.0, b"taskey page tokens");
        tag.as_ref().try_into().expect("an HMAC-SHA256 tag has 32 bytes")
    }

    /// Returns the key of the tokens and codes in mails: the MAC of another constant message.
    #[must_use]
    pub fn action_key(&self) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.0, b"taskey action tokens");
        tag.as_ref().try_into().expect("an HMAC-SHA256 tag has 32 bytes")
    }

    /// Returns the key that encrypts secrets of a purpose: the MAC of another constant message.
    #[must_use]
    pub fn sealing_key(&self, purpose: &str) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.0, format!("taskey sealed {purpose}").as_bytes());
        tag.as_ref().try_into().expect("an HMAC-SHA256 tag has 32 bytes")
    }

    /// Returns a fingerprint that identifies this key without revealing it: the MAC of another constant message.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.fingerprint_tag())
    }

    fn fingerprint_tag(&self) -> hmac::Tag {
        hmac::sign(&self.0, b"taskey refresh secret fingerprint")
    }

    /// Returns the first digits of the fingerprint in hexadecimal, by which people identify the key.
    #[must_use]
    pub fn id(&self) -> String {
        self.fingerprint_tag().as_ref()[..ID_BYTES].iter().fold(String::new(), |mut id, byte| {
            // Writing to a string cannot fail.
            _ = write!(id, "{byte:02x}");
            id
        })
    }

    /// Returns `base64url(session id ‖ generation ‖ HMAC-SHA256(key, session id ‖ generation))`.
    #[must_use]
    pub fn issue(&self, token: RefreshToken) -> String {
        let payload = token.payload();
        let tag = hmac::sign(&self.0, &payload);
        BASE64_URL_SAFE_NO_PAD.encode([&payload, tag.as_ref()].concat())
    }

    /// Returns the content of a token if its tag is valid. Tags are compared in constant time.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<RefreshToken> {
        let mut bytes = [0; PAYLOAD_BYTES + TAG_BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (payload, tag) = bytes.split_at(PAYLOAD_BYTES);
        if length != bytes.len() || hmac::verify(&self.0, payload, tag).is_err() {
            return None;
        }
        let (session_id, generation) = payload.split_at(16);
        Some(RefreshToken {
            session_id: Uuid::from_slice(session_id).ok()?,
            generation: i64::from_be_bytes(generation.try_into().ok()?),
        })
    }
}

impl RefreshToken {
    fn payload(self) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..16].copy_from_slice(self.session_id.as_bytes());
        payload[16..].copy_from_slice(&self.generation.to_be_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use service_kit::{clock::Clock, ops::secret_file};

    use super::{RefreshKey, RefreshKeys, RefreshToken};

    fn key() -> RefreshKey {
        RefreshKey::new(&secret_file::Key::random())
    }

    #[test]
    fn token_contains_its_session_and_generation() {
        let (key, token) = (key(), RefreshToken { session_id: Clock::system().new_id(), generation: 7 });
        assert_eq!(key.open(&key.issue(token)), Some(token));
    }

    #[test]
    fn modified_token_is_rejected() {
        let key = key();
        let text = key.issue(RefreshToken { session_id: Clock::system().new_id(), generation: 7 });
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.open(&String::from_utf8(changed).expect("ASCII")), None, "byte {index}");
        }
        assert_eq!(key.open(&text[1..]), None);
        assert_eq!(key.open(&format!("{text}A")), None);
        assert_eq!(key.open(&format!("{text}=")), None);
        assert_eq!(key.open(""), None);
    }

    #[test]
    fn earlier_keys_open_tokens_and_the_first_key_issues_them() {
        let (old, new) = (secret_file::Key::random(), secret_file::Key::random());
        let keys = |secrets: &[&secret_file::Key]| {
            RefreshKeys::new(secrets.iter().map(|secret| RefreshKey::new(secret)).collect())
        };
        let token = RefreshToken { session_id: Clock::system().new_id(), generation: 7 };
        let (before, during, after) = (keys(&[&old]), keys(&[&new, &old]), keys(&[&new]));
        assert_eq!(during.open(&before.issue(token)), Some(token));
        assert_eq!(after.open(&during.issue(token)), Some(token));
        assert_eq!(after.open(&before.issue(token)), None);
    }

    #[test]
    fn token_of_another_key_is_rejected() {
        let token = RefreshToken { session_id: Clock::system().new_id(), generation: 7 };
        assert_eq!(key().open(&key().issue(token)), None);
    }
}
