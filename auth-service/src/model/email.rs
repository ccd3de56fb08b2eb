//! Email addresses in canonical form.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

/// The limit of a path in RFC 5321, section 4.5.3.1, without its angle brackets.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

/// An email address in lower case, with the domain in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Parses an address in the syntax of `<input type=email>` in the HTML standard, with an international domain in
    /// Unicode or ASCII. Blanks around it are ignored, as that element does.
    ///
    /// # Errors
    /// If the address is invalid; the message names the rule.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be empty");
        }
        let (local, domain) = text.rsplit_once('@').ok_or("must have an @")?;
        if local.is_empty() || local.len() > MAX_LOCAL_BYTES {
            return Err("must have 1 to 64 characters before the @");
        }
        if !local.bytes().all(is_local_part_byte) {
            return Err("has an invalid character before the @");
        }
        // Avoids the conversion of a domain that is far too long.
        if domain.len() > 4 * MAX_BYTES {
            return Err("must have at most 254 characters");
        }
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| "must have a domain name after the @")?;
        let email = format!("{}@{domain}", local.to_ascii_lowercase());
        if email.len() > MAX_BYTES { Err("must have at most 254 characters") } else { Ok(Self(email)) }
    }

    /// Returns the canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reports whether a byte is `atext` of RFC 5322 or a full stop, as in the HTML standard.
fn is_local_part_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::Email;

    fn canonical(text: &str) -> String {
        Email::parse(text).expect(text).as_str().to_owned()
    }

    #[test]
    fn case_is_ignored() {
        assert_eq!(canonical("A.B+c@X.Io"), "a.b+c@x.io");
    }

    #[test]
    fn blanks_around_an_address_are_ignored() {
        for text in [" a@x.io", "a@x.io ", "\t a@x.io\r\n", "\u{a0}a@x.io\u{3000}"] {
            assert_eq!(canonical(text), "a@x.io");
        }
    }

    #[test]
    fn unicode_and_ascii_domains_have_the_same_canonical_form() {
        assert_eq!(canonical("a@BÜCHER.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@xn--bcher-kva.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@bu\u{308}cher.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@BU\u{308}CHER\u{3002}Example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@XN--BCHER-KVA.example"), "a@xn--bcher-kva.example");
    }

    #[test]
    fn addresses_that_the_html_standard_accepts_are_accepted() {
        for text in ["!#$%&'*+-/=?^_`{|}~.9z@x.io", ".a..b.@x.io", "a@localhost", "a@1.2.3.4", "a@a--b.io"] {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn too_long_addresses_are_rejected_not_truncated() {
        let address = |local: usize, labels: &[usize]| {
            let domain: Vec<_> = labels.iter().map(|length| "d".repeat(*length)).collect();
            format!("{}@{}", "l".repeat(local), domain.join("."))
        };
        let longest = address(64, &[63, 63, 61]);
        assert_eq!((longest.len(), canonical(&longest)), (254, longest));
        for too_long in [address(64, &[63, 63, 62]), address(65, &[1]), address(1, &[64])] {
            assert!(Email::parse(&too_long).is_err(), "{too_long}");
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        let long_local_part = format!("{}@x.io", "a".repeat(65));
        let long_domain = format!("a@{}.io", "b.".repeat(130));
        for text in [
            "",
            " ",
            "a",
            "@x.io",
            "a @x.io",
            "a@ x.io",
            "a@",
            "a b@x.io",
            "a@x..io",
            "a@-x.io",
            "a@x.io\r\nbcc: b@x.io",
            "a\0@x.io",
            "ä@x.io",
            "a@x io",
            "a@x_y.io",
            "<a@x.io>",
            "a@[127.0.0.1]",
            "a@x.io.",
            "a@b@x.io",
            &long_local_part,
            &long_domain,
        ] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }
}
