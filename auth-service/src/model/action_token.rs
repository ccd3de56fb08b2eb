//! The links and codes in mails, by which a user proves to have received the mail. They are derived from the mail and from
//! the state of the account, and not stored: a stolen database contains none, and any change of that state makes them
//! invalid. They are therefore valid once.

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::{mail::Template, refresh_token::RefreshKeys};

const ID_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// Length of codes, which people type. With 100 guesses a day, one in a million days succeeds.
const CODE_DIGITS: usize = 8;

/// The number of different codes.
const CODES: u64 = 100_000_000;

/// A mail with a link and a code, and the state of the account that they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The mail.
    pub mail_id: Uuid,
    /// What the mail is about.
    pub template: Template,
    /// The state, as [`account_state`](super::mail::account_state) returns it.
    pub account_state: String,
}

/// The content of a token, whose tag has not been verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedToken {
    /// The mail that contains the token.
    pub mail_id: Uuid,
    tag: [u8; TAG_BYTES],
}

impl UnverifiedToken {
    /// Parses `base64url(mail id ‖ tag)`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; ID_BYTES + TAG_BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (id, tag) = bytes.split_at(ID_BYTES);
        let token = Self { mail_id: Uuid::from_slice(id).ok()?, tag: tag.try_into().ok()? };
        (length == bytes.len()).then_some(token)
    }
}

/// A code as it was typed, without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// Parses a code. Spaces are ignored.
    ///
    /// # Errors
    /// If it does not have eight digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "must have 8 digits";
        let digits: String = text.chars().filter(|character| *character != ' ').take(CODE_DIGITS + 1).collect();
        let is_code = digits.len() == CODE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_code { Ok(Self(digits)) } else { Err(EXPECTED) }
    }
}

/// The token and the code of a mail.
#[derive(Clone)]
pub struct ActionSecrets {
    /// The token, which the link contains.
    pub token: String,
    /// The code, in two groups of digits.
    pub code: String,
}

impl Action {
    /// Derives the token and the code with the current key.
    #[must_use]
    pub fn secrets(&self, keys: &RefreshKeys) -> ActionSecrets {
        let key = action_key(&keys.first().action_key());
        let tag = hmac::sign(&key, &self.message(b"token"));
        let token = BASE64_URL_SAFE_NO_PAD.encode([self.mail_id.as_bytes(), tag.as_ref()].concat());
        let code = self.code(&key);
        let (first, second) = code.split_at(CODE_DIGITS / 2);
        ActionSecrets { token, code: format!("{first} {second}") }
    }

    /// Reports whether a token belongs to this mail and the state of the account. All keys are accepted.
    #[must_use]
    pub fn accepts_token(&self, keys: &RefreshKeys, token: &UnverifiedToken) -> bool {
        let message = self.message(b"token");
        token.mail_id == self.mail_id
            && keys.all().iter().any(|key| hmac::verify(&action_key(&key.action_key()), &message, &token.tag).is_ok())
    }

    /// Reports whether a code belongs to this mail and the state of the account. All keys are accepted.
    #[must_use]
    pub fn accepts_code(&self, keys: &RefreshKeys, code: &Code) -> bool {
        let is_equal = |own: &str| constant_time::verify_slices_are_equal(own.as_bytes(), code.0.as_bytes()).is_ok();
        keys.all().iter().any(|key| is_equal(&self.code(&action_key(&key.action_key()))))
    }

    fn code(&self, key: &hmac::Key) -> String {
        let tag = hmac::sign(key, &self.message(b"code"));
        let number = u64::from_be_bytes(*tag.as_ref().first_chunk().expect("an HMAC-SHA256 tag has 32 bytes"));
        format!("{:0width$}", number % CODES, width = CODE_DIGITS)
    }

    /// Returns the input of the HMAC. The template and the purpose have no null bytes.
    fn message(&self, purpose: &[u8]) -> Vec<u8> {
        let (template, state) = (self.template.name().as_bytes(), self.account_state.as_bytes());
        [purpose, b"\0", template, b"\0", self.mail_id.as_bytes(), state].concat()
    }
}

fn action_key(bytes: &[u8; TAG_BYTES]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use service_kit::{clock::Clock, ops::secret_file::Key};

    use super::*;
    use crate::model::refresh_token::RefreshKey;

    fn keys(secrets: &[&Key]) -> RefreshKeys {
        RefreshKeys::new(secrets.iter().map(|secret| RefreshKey::new(secret)).collect())
    }

    fn action() -> Action {
        let mail_id = Clock::system().new_id();
        Action { mail_id, template: Template::ResetPassword, account_state: "state".to_owned() }
    }

    fn accepts(action: &Action, keys: &RefreshKeys, secrets: &ActionSecrets) -> (bool, bool) {
        let token = UnverifiedToken::parse(&secrets.token).expect("a token");
        let code = Code::parse(&secrets.code).expect("a code");
        (action.accepts_token(keys, &token), action.accepts_code(keys, &code))
    }

    #[test]
    fn token_and_code_belong_to_one_mail_template_and_state() {
        let (keys, action) = (keys(&[&Key::random()]), action());
        let secrets = action.secrets(&keys);
        assert_eq!(accepts(&action, &keys, &secrets), (true, true));
        for other in [
            Action { mail_id: Clock::system().new_id(), ..action.clone() },
            Action { template: Template::VerifyEmail, ..action.clone() },
            Action { account_state: "statf".to_owned(), ..action.clone() },
        ] {
            assert_eq!(accepts(&other, &keys, &secrets), (false, false), "{other:?}");
        }
    }

    #[test]
    fn earlier_keys_remain_valid_until_they_are_removed() {
        let (old, new, action) = (Key::random(), Key::random(), action());
        let secrets = action.secrets(&keys(&[&old]));
        assert_eq!(accepts(&action, &keys(&[&new, &old]), &secrets), (true, true));
        assert_eq!(accepts(&action, &keys(&[&new]), &secrets), (false, false));
    }

    #[test]
    fn modified_tokens_are_refused() {
        let (keys, action) = (keys(&[&Key::random()]), action());
        let token = action.secrets(&keys).token;
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = UnverifiedToken::parse(&String::from_utf8(changed).expect("ASCII"));
            assert!(changed.is_none_or(|changed| !action.accepts_token(&keys, &changed)), "character {index}");
        }
        for other in ["", &token[1..], &format!("{token}A"), &format!("{token}="), "ü"] {
            assert_eq!(UnverifiedToken::parse(other), None, "{other}");
        }
    }

    #[test]
    fn codes_have_eight_digits_and_any_spaces() {
        assert_eq!(Code::parse("1234 5678"), Code::parse(" 12 34 56 78 "));
        for invalid in ["", "1234567", "123456789", "1234567x", "１２３４５６７８", "1234-5678"] {
            assert!(Code::parse(invalid).is_err(), "{invalid:?}");
        }
    }
}
