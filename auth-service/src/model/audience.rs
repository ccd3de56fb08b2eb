//! The name of an audience of access tokens.

use std::str::FromStr;

/// Maximum length of an audience, in bytes, so that a token stays short enough for a header.
const MAX_BYTES: usize = 256;

/// An audience of access tokens: the claim `aud`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(pub(crate) String);

impl FromStr for Audience {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Self(text.to_owned())) } else { Err("must be 1 to 256 visible ASCII characters") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_visible_ascii() {
        for valid in ["reports", "https://reports.example.org/v1", &"x".repeat(256)] {
            assert_eq!(valid.parse(), Ok(Audience(valid.to_owned())));
        }
        for invalid in ["", "two words", "é", "a\n", &"x".repeat(257)] {
            assert!(invalid.parse::<Audience>().is_err(), "{invalid:?}");
        }
    }
}
