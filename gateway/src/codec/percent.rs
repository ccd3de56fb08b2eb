//! Strict percent-decoding (RFC 3986, section 2.1): a `%` without two hex digits and invalid UTF-8 are refused.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The text is not percent-encoded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not percent-encoded UTF-8")]
pub struct BadEncoding;

/// Decodes all percent-encoded octets.
///
/// # Errors
/// If `text` is not percent-encoded UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>, BadEncoding> {
    let well_formed = text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !well_formed {
        return Err(BadEncoding);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| BadEncoding)
}

/// Decodes all percent-encoded octets except `%2F`. `google.api.http` requires this for variables with several
/// segments, so that an encoded slash is not mistaken for a separator.
///
/// # Errors
/// If `text` is not percent-encoded UTF-8.
pub fn decode_segments(text: &str) -> Result<String, BadEncoding> {
    decode(&text.replace("%2F", "%252F").replace("%2f", "%252f")).map(Cow::into_owned)
}

/// Decodes a name or a value in a query, where `+` is a space.
///
/// # Errors
/// If `text` is not percent-encoded UTF-8.
pub fn decode_query(text: &str) -> Result<String, BadEncoding> {
    decode(&text.replace('+', " ")).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_decodes_every_octet() {
        assert_eq!(decode("a%20b%2Fc%C3%A4").as_deref(), Ok("a b/cä"));
    }

    #[test]
    fn percent_sign_without_two_hex_digits_is_refused() {
        for text in ["%", "a%2", "%zz", "100%", "%+1"] {
            assert_eq!(decode(text), Err(BadEncoding), "{text}");
        }
    }

    #[test]
    fn invalid_utf8_is_refused() {
        assert_eq!(decode("%ff"), Err(BadEncoding));
    }

    #[test]
    fn decode_segments_keeps_encoded_slashes() {
        assert_eq!(decode_segments("a/b%2Fc%2fd%20e").as_deref(), Ok("a/b%2Fc%2fd e"));
    }

    #[test]
    fn plus_is_a_space_in_a_query() {
        assert_eq!(decode_query("a+b%2Bc").as_deref(), Ok("a b+c"));
    }
}
