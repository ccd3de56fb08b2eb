//! E-mail addresses in one canonical form.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

/// RFC 5321, section 4.5.3.1, less the angle brackets around a path.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

/// An address: lower case, its domain in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Takes what the HTML standard takes in `<input type=email>`, with an international domain in either form.
    ///
    /// # Errors
    /// What is wrong with it, in words for a person.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        let (local, domain) = text.rsplit_once('@').ok_or("must have an @")?;
        if local.is_empty() || local.len() > MAX_LOCAL_BYTES {
            return Err("must have 1 to 64 characters before the @");
        }
        if !local.bytes().all(is_local) {
            return Err("has a character before the @ that cannot stand there");
        }
        // The domain of a name that is far too long is not worth the work.
        if domain.len() > 4 * MAX_BYTES {
            return Err("must have at most 254 characters");
        }
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| "must have a domain name after the @")?;
        let email = format!("{}@{domain}", local.to_ascii_lowercase());
        if email.len() > MAX_BYTES { Err("must have at most 254 characters") } else { Ok(Self(email)) }
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `atext` of RFC 5322 and the full stop, as in the HTML standard.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::Email;

    fn canonical(text: &str) -> String {
        Email::parse(text).expect(text).as_str().to_owned()
    }

    #[test]
    fn case_does_not_count() {
        assert_eq!(canonical("A.B+c@X.Io"), "a.b+c@x.io");
    }

    #[test]
    fn both_forms_of_an_international_domain_are_one() {
        assert_eq!(canonical("a@BÜCHER.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@xn--bcher-kva.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@bu\u{308}cher.example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@BU\u{308}CHER\u{3002}Example"), "a@xn--bcher-kva.example");
        assert_eq!(canonical("a@XN--BCHER-KVA.example"), "a@xn--bcher-kva.example");
    }

    #[test]
    fn what_the_html_standard_takes_is_taken() {
        for text in ["!#$%&'*+-/=?^_`{|}~.9z@x.io", ".a..b.@x.io", "a@localhost", "a@1.2.3.4", "a@a--b.io"] {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn lengths_are_limited_and_nothing_is_cut_off() {
        let of = |local: usize, labels: &[usize]| {
            let domain: Vec<_> = labels.iter().map(|length| "d".repeat(*length)).collect();
            format!("{}@{}", "l".repeat(local), domain.join("."))
        };
        let longest = of(64, &[63, 63, 61]);
        assert_eq!((longest.len(), canonical(&longest)), (254, longest));
        for longer in [of(64, &[63, 63, 62]), of(65, &[1]), of(1, &[64])] {
            assert!(Email::parse(&longer).is_err(), "{longer}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@x.io", "a".repeat(65));
        let longer = format!("a@{}.io", "b.".repeat(130));
        for text in [
            "",
            "a",
            "@x.io",
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
            &long,
            &longer,
        ] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }
}
