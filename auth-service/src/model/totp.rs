//! Time-based one-time passwords (TOTP, RFC 6238), which authenticator apps show. The parameters are those that all apps
//! support: SHA-1, 6 digits, 30 s.

use std::fmt::Write;

use aws_lc_rs::{constant_time, hmac};
use service_kit::{clock::Timestamp, random};
use zeroize::Zeroizing;

use super::base32;

/// Length of secrets, in bytes: that of a SHA-1 hash (RFC 4226, section 4).
const SECRET_BYTES: usize = 20;

/// Length of codes.
const DIGITS: usize = 6;

/// The number of different codes.
const CODES: u32 = 1_000_000;

/// How long a code is shown, in seconds.
const STEP_SECONDS: i64 = 30;

/// Codes of this many steps before and after the present one are accepted, because the clock of a phone may be wrong and
/// users need time to type (RFC 6238, section 5.2).
const TOLERATED_STEPS: i64 = 1;

/// The name of the issuer, which apps show.
const ISSUER: &str = "Taskey";

/// A code as it was typed, without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotpCode(String);

impl TotpCode {
    /// Parses a code. Spaces are ignored.
    ///
    /// # Errors
    /// If it does not have six digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let digits: String = text.chars().filter(|character| *character != ' ').take(DIGITS + 1).collect();
        let is_code = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_code { Ok(Self(digits)) } else { Err("must have 6 digits") }
    }
}

/// The secret that an app and the server share.
pub struct TotpSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl TotpSecret {
    /// Returns a random secret.
    #[must_use]
    pub fn random() -> Self {
        Self(Zeroizing::new(random::bytes()))
    }

    /// Returns the secret with these bytes, if they have the right length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// Returns the secret as users type it into apps.
    #[must_use]
    pub fn encode(&self) -> String {
        base32::encode(self.as_bytes())
    }

    /// Returns the secret and its parameters in the URI format of authenticator apps.
    #[must_use]
    pub fn uri(&self, email: &str) -> String {
        let (account, secret) = (percent_encode(email), self.encode());
        format!(
            "otpauth://totp/{ISSUER}:{account}?secret={secret}&issuer={ISSUER}&algorithm=SHA1&digits={DIGITS}&\
             period={STEP_SECONDS}"
        )
    }

    /// Returns the time step of a code, if the code is shown about now and belongs to a later step than `last_step`. Each
    /// code is compared in constant time.
    #[must_use]
    pub fn step_of(&self, code: &TotpCode, now: Timestamp, last_step: i64) -> Option<i64> {
        let current = now.as_seconds().div_euclid(STEP_SECONDS);
        let is_code =
            |step: &i64| constant_time::verify_slices_are_equal(self.code(*step).as_bytes(), code.0.as_bytes()).is_ok();
        let steps = (current - TOLERATED_STEPS)..=(current + TOLERATED_STEPS);
        steps.filter(is_code).find(|step| *step > last_step)
    }

    /// Returns the code of a time step (RFC 4226, section 5.3).
    fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.as_bytes());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let offset = usize::from(tag.as_ref()[SECRET_BYTES - 1] & 0xf);
        let bytes = tag.as_ref()[offset..].first_chunk().expect("the offset is at most 15 of 20 bytes");
        let number = u32::from_be_bytes(*bytes) & 0x7fff_ffff;
        format!("{:0width$}", number % CODES, width = DIGITS)
    }
}

/// Encodes all characters that are not unreserved in URIs (RFC 3986, section 2.3).
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of the test vectors.
    fn secret() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").expect("20 bytes")
    }

    fn code(text: &str) -> TotpCode {
        TotpCode::parse(text).expect("a code")
    }

    /// The vectors of RFC 6238, appendix B, have 8 digits. The last 6 are the code with 6 digits.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let (now, step) = (Timestamp::from_seconds(seconds), seconds / STEP_SECONDS);
            assert_eq!(secret().step_of(&code(expected), now, 0), Some(step), "at {seconds}");
        }
    }

    #[test]
    fn codes_are_accepted_one_step_before_and_after_theirs() {
        let step = 41_152_263;
        let shown = code("005924");
        for (seconds_after, is_accepted) in [(-31, false), (-30, true), (0, true), (59, true), (60, false)] {
            let now = Timestamp::from_seconds(step * STEP_SECONDS + seconds_after);
            assert_eq!(secret().step_of(&shown, now, 0).is_some(), is_accepted, "{seconds_after}");
        }
    }

    #[test]
    fn codes_of_the_last_step_or_before_are_refused() {
        let (now, shown) = (Timestamp::from_seconds(1_234_567_890), code("005924"));
        assert_eq!(secret().step_of(&shown, now, 41_152_262), Some(41_152_263));
        assert_eq!(secret().step_of(&shown, now, 41_152_263), None);
        assert_eq!(secret().step_of(&shown, now, 41_152_264), None);
    }

    #[test]
    fn typed_codes_have_six_digits_and_any_spaces() {
        assert_eq!(TotpCode::parse(" 005 924 "), TotpCode::parse("005924"));
        for invalid in ["", "00592", "0059244", "00592a", "００５９２４", "-05924", "005-924"] {
            assert!(TotpCode::parse(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn uri_has_no_reserved_characters_of_the_address() {
        let uri = secret().uri("o'brien+tag&x=y@a.io");
        assert_eq!(
            uri,
            "otpauth://totp/Taskey:o%27brien%2Btag%26x%3Dy%40a.io?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Taskey\
             &algorithm=SHA1&digits=6&period=30"
        );
    }
}
