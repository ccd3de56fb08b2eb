//! Plain-text passwords, between the request and the hash.

use std::{collections::HashSet, sync::LazyLock};

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Limits the cost of normalizing and hashing a password.
pub const MAX_CODE_POINTS: usize = 128;

/// The most common passwords, in lower case: those with at least 8 characters in Django's list
/// (`common-passwords.txt.gz` of Django 5.2, BSD licence, after a collection by Royce Williams).
static COMMON_PASSWORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("../../data/common_passwords.txt").lines().collect());

/// The rules for a new password, and the account it is for.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Minimum number of code points.
    pub min_length: usize,
    /// Email address of the account.
    pub email: &'a str,
    /// Display name of the account.
    pub display_name: &'a str,
}

impl Rules<'_> {
    /// Reports whether a password in lower case can be guessed from the email address or the name of the account.
    fn is_guessable_from_account(&self, password: &str) -> bool {
        let email = self.email.to_lowercase();
        let (local, _) = email.split_once('@').unwrap_or((&email, ""));
        let name = self.display_name.nfkc().collect::<String>().to_lowercase();
        let matches = |text: &str| !text.is_empty() && password == text;
        matches(local) || matches(&name) || (!email.is_empty() && password.contains(&email))
    }
}

/// A password, NFKC-normalized (NIST SP 800-63B-4, section 3.1.1.2), so that composed and decomposed characters are the
/// same. It is wiped from memory when it is dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Parses an existing password, which is only compared. The rules for new passwords do not apply.
    ///
    /// # Errors
    /// If it is empty or too long; the message names the rule.
    pub fn existing(text: String) -> Result<Self, &'static str> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err("must not be empty");
        }
        // Composition combines at most 4 code points, so longer text cannot become a valid password. It is not
        // normalized, because normalized text can be 18 times as long.
        if text.chars().count() > 4 * MAX_CODE_POINTS {
            return Err("is too long to be a password");
        }
        Ok(Self(Zeroizing::new(text.nfkc().collect())))
    }

    /// Parses a new password, which must be long enough and not easily guessed. There are no rules for its composition
    /// (NIST SP 800-63B-4, section 3.1.1.2).
    ///
    /// # Errors
    /// If it breaks a rule; the message names the rule.
    pub fn new(text: String, rules: Rules<'_>) -> Result<Self, String> {
        let password = Self::existing(text)?;
        let length = password.0.chars().count();
        if length < rules.min_length {
            return Err(format!("must be at least {} characters long", rules.min_length));
        }
        if length > MAX_CODE_POINTS {
            return Err(format!("must be at most {MAX_CODE_POINTS} characters long"));
        }
        if password.0.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        let lower = Zeroizing::new(password.0.to_lowercase());
        if COMMON_PASSWORDS.contains(lower.as_str()) {
            return Err("must not be one of the most common passwords".to_owned());
        }
        if rules.is_guessable_from_account(&lower) {
            return Err("must not be the email address or the name of the account".to_owned());
        }
        Ok(password)
    }

    /// Returns the bytes to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{Password, Rules};

    const RULES: Rules<'_> =
        Rules { min_length: 15, email: "ann.of.the.hills@example.com", display_name: "Ann of the Hills" };

    fn new(text: &str) -> Result<Password, String> {
        Password::new(text.to_owned(), RULES)
    }

    #[test]
    fn composed_and_decomposed_characters_are_the_same_password() {
        let composed = new("schöne grüne Wiesen").unwrap_or_else(|error| panic!("{error}"));
        let decomposed = new("scho\u{308}ne gru\u{308}ne Wiesen").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(composed.as_bytes(), decomposed.as_bytes());
    }

    #[test]
    fn code_points_are_counted_not_bytes() {
        assert!(new(&"ß".repeat(14)).is_err());
        assert!(new(&"ß".repeat(15)).is_ok());
        assert!(new(&"ß".repeat(128)).is_ok());
        assert!(new(&"ß".repeat(129)).is_err());
    }

    #[test]
    fn common_passwords_are_rejected_in_any_case_and_width() {
        for common in ["manchesterunited", "ManchesterUnited", "1Q2W3E4R5T6Y7U8I9O0P", "qwerty123456789"] {
            assert_eq!(new(common).err().as_deref(), Some("must not be one of the most common passwords"), "{common}");
        }
        let short_passwords = Rules { min_length: 8, ..RULES };
        assert!(Password::new("password1".to_owned(), short_passwords).is_err());
        assert!(Password::new("ｐａｓｓｗｏｒｄ１".to_owned(), short_passwords).is_err(), "full-width characters");
        assert!(new("correct horse battery staple").is_ok());
    }

    #[test]
    fn passwords_that_can_be_guessed_from_the_account_are_rejected() {
        for guessable in
            ["ann.of.the.hills@example.com", "ANN.of.the.hills@EXAMPLE.com!", "Ann.Of.The.Hills", "ann of the hills"]
        {
            assert!(new(guessable).is_err_and(|error| error.contains("email address or the name")), "{guessable}");
        }
        assert!(new("the hills of Ann are green").is_ok());
        let nameless = Rules { email: "a@b.c", display_name: "", ..RULES };
        assert!(Password::new("long enough for anyone".to_owned(), nameless).is_ok());
    }
}
