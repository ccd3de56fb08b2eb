//! Percent-encoding (RFC 3986, section 2.1), read strictly: a lone `%` and bytes that are not UTF-8 are refused.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A text that is not percent-encoded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not percent-encoded UTF-8")]
pub struct BadEncoding;

/// Decodes everything.
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

/// Decodes everything but `%2F`, as `google.api.http` asks for variables of several segments: their slashes divide
/// segments, and an encoded one does not.
///
/// # Errors
/// If `text` is not percent-encoded UTF-8.
pub fn decode_segments(text: &str) -> Result<String, BadEncoding> {
    decode(&text.replace("%2F", "%252F").replace("%2f", "%252f")).map(Cow::into_owned)
}

/// Decodes a name or a value of a query, where `+` is a space.
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
    fn every_octet_is_decoded() {
        assert_eq!(decode("a%20b%2Fc%C3%A4").as_deref(), Ok("a b/cä"));
    }

    #[test]
    fn a_lone_percent_sign_is_refused() {
        for text in ["%", "a%2", "%zz", "100%", "%+1"] {
            assert_eq!(decode(text), Err(BadEncoding), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert_eq!(decode("%ff"), Err(BadEncoding));
    }

    #[test]
    fn an_encoded_slash_stays_encoded_between_segments() {
        assert_eq!(decode_segments("a/b%2Fc%2fd%20e").as_deref(), Ok("a/b%2Fc%2fd e"));
    }

    #[test]
    fn a_plus_is_a_space_in_a_query() {
        assert_eq!(decode_query("a+b%2Bc").as_deref(), Ok("a b+c"));
    }
}
