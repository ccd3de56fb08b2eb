//! The names in certificates by which services are identified.

use std::{fmt, str::FromStr};

/// Maximum length of a name, as that of SPIFFE ids.
const MAX_BYTES: usize = 2048;

/// A subject alternative name: a URI, or a DNS name in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateName(pub(crate) String);

impl FromStr for CertificateName {
    type Err = &'static str;

    /// Parses a name. Whether it is a URI or a DNS name does not matter, because no text is both.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_uri = text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        let is_printable = text.len() <= MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_dns =
            text.contains(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 253 && text.chars().all(is_host);
        match (is_uri && is_printable, is_dns) {
            (true, _) => Ok(Self(text.to_owned())),
            (false, true) => Ok(Self(text.to_ascii_lowercase())),
            (false, false) => Err("must be a URI such as spiffe://example.org/billing, or a DNS name"),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::CertificateName;

    #[test]
    fn uris_and_dns_names_are_valid() {
        for (text, name) in [
            ("spiffe://example.org/Billing", "spiffe://example.org/Billing"),
            ("Billing.Example.org", "billing.example.org"),
            ("billing", "billing"),
        ] {
            assert_eq!(text.parse::<CertificateName>().map(|name| name.0), Ok(name.to_owned()));
        }
        for invalid in
            ["", ".", "*.example.org", "spiffe://", "://x", "a b", "spiffe://exämple", "a/b", &"x".repeat(254)]
        {
            assert!(invalid.parse::<CertificateName>().is_err(), "{invalid:?}");
        }
    }
}
