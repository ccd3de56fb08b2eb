//! Personal access tokens: opaque tokens that verifiers exchange for claims, and remember for some minutes.

use std::{fmt, net::IpAddr, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use http::{Extensions, HeaderMap};
use ipnet::IpNet;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::claims::AccessClaims;
use crate::{ops::secret_file::Key, status::ApiError};

pub mod cache;
pub mod remote;

/// The prefix of personal access tokens. It distinguishes them from access tokens and lets secret scanners find them.
pub const PREFIX: &str = "taskey_pat_";

/// How long the claims of a token are remembered at most.
pub const MAX_AGE: Duration = Duration::from_secs(300);

/// Number of characters of the id: a UUID without hyphens.
const ID_CHARACTERS: usize = 32;

/// Number of characters of the secret: 32 bytes in base64url without padding.
const SECRET_CHARACTERS: usize = 43;

/// Number of characters of the checksum: a CRC-32 in hexadecimal digits.
const CHECKSUM_CHARACTERS: usize = 8;

/// The id and the hash of a personal access token.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonalAccessToken {
    /// The id of the token.
    pub id: Uuid,
    /// The SHA-256 hash of the token in base64url. The token has 256 random bits, so that no slow hash is needed.
    pub hash: String,
}

impl PersonalAccessToken {
    /// Generates a token with this id. Only the hash is stored.
    #[must_use]
    pub fn generate(id: Uuid) -> (Zeroizing<String>, Self) {
        let body = Zeroizing::new(format!("{PREFIX}{}_{}", id.simple(), *Key::random().encode()));
        let token = Zeroizing::new(format!("{}_{:08x}", *body, crc32(body.as_bytes())));
        let hash = hash(&token);
        (token, Self { id, hash })
    }

    /// Parses a token. Returns `None` if its format or checksum is wrong.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let rest = token.strip_prefix(PREFIX)?;
        let (id, rest) = rest.split_at_checked(ID_CHARACTERS)?;
        let (secret, checksum) = rest.strip_prefix('_')?.split_at_checked(SECRET_CHARACTERS)?;
        let checksum = checksum.strip_prefix('_').filter(|checksum| checksum.len() == CHECKSUM_CHARACTERS)?;
        let body = &token[..token.len() - CHECKSUM_CHARACTERS - 1];
        let is_secret = secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let is_valid = is_secret && checksum == format!("{:08x}", crc32(body.as_bytes()));
        let id = Uuid::try_parse(id).ok().filter(|parsed| is_valid && parsed.simple().to_string() == id)?;
        Some(Self { id, hash: hash(token) })
    }
}

/// Writes no secret.
impl fmt::Debug for PersonalAccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersonalAccessToken").field("id", &self.id).finish_non_exhaustive()
    }
}

fn hash(token: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// Returns the CRC-32 of zip, PNG and Ethernet (ISO/IEC 8802-3).
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// The result of an exchange.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// The claims of the token. They expire when the token does.
    pub claims: AccessClaims,
    /// The networks from which the token can be used. If empty, it can be used from everywhere.
    pub networks: Vec<IpNet>,
    /// How long the claims may be remembered.
    pub valid_for: Duration,
}

/// Exchanges personal access tokens for their claims.
pub trait Exchange: fmt::Debug + Send + Sync {
    /// Returns the claims of a token with a valid format, which a client at this address has sent. Returns `None` if the
    /// token does not exist, has expired or was revoked.
    ///
    /// # Errors
    /// If the token cannot be checked.
    fn exchange<'a>(
        &'a self,
        token: &'a str,
        client: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Option<Exchanged>, ApiError>>;
}

/// Determines the addresses of clients.
pub trait ClientAddresses: fmt::Debug + Send + Sync {
    /// Returns the address of the client of a call, or `None` if it is unknown.
    ///
    /// # Errors
    /// If it cannot be determined now.
    fn address<'a>(
        &'a self,
        extensions: &'a Extensions,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, ApiError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_common_crc32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn generated_token_is_parsed() {
        let id = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);
        let (token, generated) = PersonalAccessToken::generate(id);
        assert_eq!(token.len(), 96);
        assert!(token.starts_with("taskey_pat_0198c0de000070008000000000000001_"));
        assert_eq!(PersonalAccessToken::parse(&token), Some(generated.clone()));
        let (_, other) = PersonalAccessToken::generate(id);
        assert_ne!(other.hash, generated.hash);
    }

    #[test]
    fn token_with_any_changed_character_is_invalid() {
        let (token, _) = PersonalAccessToken::generate(Uuid::from_u128(1));
        for index in 0..token.len() {
            let mut bytes = token.as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(PersonalAccessToken::parse(&changed), None, "{changed}");
        }
    }

    #[test]
    fn token_of_another_format_is_invalid() {
        let (token, _) = PersonalAccessToken::generate(Uuid::from_u128(0xabc));
        let upper = token.replacen("abc_", "ABC_", 1);
        for text in ["", "taskey_pat_", &token[..95], &format!("{}0", *token), &format!(" {}", *token), &upper, "ä"] {
            assert_eq!(PersonalAccessToken::parse(text), None, "{text}");
        }
        let long = format!("{PREFIX}{}", "ä".repeat(48));
        assert_eq!(PersonalAccessToken::parse(&long), None);
    }
}
