//! Recovery codes, each of which replaces a second factor once. They have 80 random bits, so only their hashes are stored.

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::random;

use super::base32;

/// The number of codes that an account gets.
pub const COUNT: usize = 10;

/// The random bytes of a code.
const BYTES: usize = 10;

/// Length of a code, in characters.
const LENGTH: usize = 16;

/// Characters between two hyphens.
const GROUP: usize = 4;

/// The SHA-256 hash of a code, in base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryCodeHash(String);

impl RecoveryCodeHash {
    /// Parses a code as it was typed. Case, spaces and hyphens are ignored.
    ///
    /// # Errors
    /// If the text is not a code.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let characters = text.chars().filter(|character| ![' ', '-'].contains(character)).take(LENGTH + 1);
        let code = characters.collect::<String>().to_ascii_uppercase();
        let is_code = code.len() == LENGTH && base32::is_base32(&code);
        if is_code { Ok(Self::new(&code)) } else { Err("must have 16 letters and digits") }
    }

    fn new(code: &str) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, code.as_bytes())))
    }

    /// Returns the hash as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// New codes as users see them, and their hashes.
pub struct NewRecoveryCodes {
    /// The codes, in groups of characters.
    pub codes: Vec<String>,
    /// The hashes.
    pub hashes: Vec<RecoveryCodeHash>,
}

impl NewRecoveryCodes {
    /// Returns random codes.
    #[must_use]
    pub fn random() -> Self {
        let codes: Vec<_> = (0..COUNT).map(|_| base32::encode(&random::bytes::<BYTES>())).collect();
        let hashes = codes.iter().map(|code| RecoveryCodeHash::new(code)).collect();
        Self { codes: codes.iter().map(|code| in_groups(code)).collect(), hashes }
    }
}

fn in_groups(code: &str) -> String {
    let groups: Vec<_> = code.as_bytes().chunks(GROUP).map(String::from_utf8_lossy).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_can_be_typed_in_lower_case_without_hyphens() {
        let NewRecoveryCodes { codes, hashes } = NewRecoveryCodes::random();
        assert_eq!((codes.len(), hashes.len()), (COUNT, COUNT));
        for (code, hash) in codes.iter().zip(&hashes) {
            assert_eq!((code.len(), code.matches('-').count()), (19, 3), "{code}");
            for typed in [code.clone(), code.to_lowercase(), code.replace('-', ""), code.replace('-', " - ")] {
                assert_eq!(RecoveryCodeHash::parse(&typed).as_ref(), Ok(hash), "{typed}");
            }
        }
        assert_ne!(codes[0], codes[1]);
    }

    #[test]
    fn other_texts_are_no_codes() {
        for text in ["", "AAAA", "AAAA-AAAA-AAAA-AAA1", "AAAA-AAAA-AAAA-AAAAA", "ÄAAA-AAAA-AAAA-AAAA"] {
            assert!(RecoveryCodeHash::parse(text).is_err(), "{text:?}");
        }
    }
}
