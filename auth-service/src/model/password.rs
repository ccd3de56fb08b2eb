//! Passwords in clear, for the moment between the request and the hash.

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// More is refused, so that nobody has us normalise and hash a novel.
pub const MAX_CODE_POINTS: usize = 128;

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

    /// A new password of at least `min_length` code points.
    ///
    /// # Errors
    /// Which rule it breaks, in words for a person.
    pub fn new(text: String, min_length: usize) -> Result<Self, String> {
        let password = Self::given(text)?;
        let length = password.0.chars().count();
        if length < min_length {
            return Err(format!("must have at least {min_length} code points"));
        }
        if length > MAX_CODE_POINTS {
            return Err(format!("must have at most {MAX_CODE_POINTS} code points"));
        }
        if password.0.chars().any(char::is_control) {
            return Err("must not have control characters".to_owned());
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
    use super::Password;

    #[test]
    fn composed_and_decomposed_characters_are_the_same_password() {
        let composed = Password::new("schöne grüne Wiesen".to_owned(), 15).expect("long enough");
        let decomposed = Password::new("scho\u{308}ne gru\u{308}ne Wiesen".to_owned(), 15).expect("long enough");
        assert_eq!(composed.as_bytes(), decomposed.as_bytes());
    }

    #[test]
    fn code_points_are_counted_not_bytes() {
        assert!(Password::new("ß".repeat(14), 15).is_err());
        assert!(Password::new("ß".repeat(15), 15).is_ok());
        assert!(Password::new("ß".repeat(128), 15).is_ok());
        assert!(Password::new("ß".repeat(129), 15).is_err());
    }
}
