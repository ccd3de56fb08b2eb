//! Passwords in clear, for the moment between the request and the hash.

use std::{collections::HashSet, sync::LazyLock};

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// More is refused, so that nobody has us normalise and hash a novel.
pub const MAX_CODE_POINTS: usize = 128;

/// Passwords that everybody tries first, in lower case: those of Django's list (`common-passwords.txt.gz` of Django 5.2,
/// BSD licence, after a collection by Royce Williams) that have at least 8 characters.
static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("../../data/common_passwords.txt").lines().collect());

/// What a new password must be like, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// How many code points it must have at least.
    pub min_length: usize,
    /// Email address of the account.
    pub email: &'a str,
    /// What the person is called.
    pub display_name: &'a str,
}

impl Rules<'_> {
    /// Whether whoever knows the person would try this password, which is in lower case, among the first.
    fn tells_of_its_owner(&self, password: &str) -> bool {
        let email = self.email.to_lowercase();
        let (local, _) = email.split_once('@').unwrap_or((&email, ""));
        let name = self.display_name.nfkc().collect::<String>().to_lowercase();
        let own = |text: &str| !text.is_empty() && password == text;
        own(local) || own(&name) || (!email.is_empty() && password.contains(&email))
    }
}

/// A password, NFKC-normalised (NIST SP 800-63B-4, section 3.1.1.2), so that it does not matter how a keyboard
/// composes its characters. It is wiped from memory when it is dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password of a login. Its length says nothing yet: it is compared, not judged.
    ///
    /// # Errors
    /// What is wrong with it, in words for a person.
    pub fn given(text: String) -> Result<Self, &'static str> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err("must not be empty");
        }
        // Normalised text is at most 18 times as long; what is longer than any password is not normalised at all.
        if text.chars().count() > 4 * MAX_CODE_POINTS {
            return Err("is too long to be a password");
        }
        Ok(Self(Zeroizing::new(text.nfkc().collect())))
    }

    /// A new password after the rules (NIST SP 800-63B-4, section 3.1.1.2): long enough, and not one that is guessed
    /// first. What characters it is made of is nobody's business.
    ///
    /// # Errors
    /// Which rule it breaks, in words for a person.
    pub fn new(text: String, rules: Rules<'_>) -> Result<Self, String> {
        let password = Self::given(text)?;
        let length = password.0.chars().count();
        if length < rules.min_length {
            return Err(format!("must be at least {} characters long", rules.min_length));
        }
        if length > MAX_CODE_POINTS {
            return Err(format!("must be at most {MAX_CODE_POINTS} characters long"));
        }
        if password.0.chars().any(char::is_control) {
            return Err("must not have control characters".to_owned());
        }
        let lower = Zeroizing::new(password.0.to_lowercase());
        if COMMON.contains(lower.as_str()) {
            return Err("is one of the commonest passwords".to_owned());
        }
        if rules.tells_of_its_owner(&lower) {
            return Err("must not be the email address or the name of the account".to_owned());
        }
        Ok(password)
    }

    /// What is hashed.
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
        let composed = new("schöne grüne Wiesen").unwrap_or_else(|fault| panic!("{fault}"));
        let decomposed = new("scho\u{308}ne gru\u{308}ne Wiesen").unwrap_or_else(|fault| panic!("{fault}"));
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
    fn the_commonest_passwords_are_refused_however_they_are_written() {
        for common in ["manchesterunited", "ManchesterUnited", "1Q2W3E4R5T6Y7U8I9O0P", "qwerty123456789"] {
            assert_eq!(new(common).err().as_deref(), Some("is one of the commonest passwords"), "{common}");
        }
        let short = Rules { min_length: 8, ..RULES };
        assert!(Password::new("password1".to_owned(), short).is_err());
        assert!(Password::new("ｐａｓｓｗｏｒｄ１".to_owned(), short).is_err(), "in full width");
        assert!(new("correct horse battery staple").is_ok());
    }

    #[test]
    fn what_says_whose_it_is_is_refused() {
        for own in
            ["ann.of.the.hills@example.com", "ANN.of.the.hills@EXAMPLE.com!", "Ann.Of.The.Hills", "ann of the hills"]
        {
            assert!(new(own).is_err_and(|fault| fault.contains("email address or the name")), "{own}");
        }
        assert!(new("the hills of Ann are green").is_ok());
        let nameless = Rules { email: "a@b.c", display_name: "", ..RULES };
        assert!(Password::new("long enough for anyone".to_owned(), nameless).is_ok());
    }
}
