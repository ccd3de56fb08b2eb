//! The URL under which browsers reach the gateway.

use std::str::FromStr;

use url::Url;

/// An `http` or `https` URL with a host and, behind a proxy that removes it, a path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    domain: Option<String>,
    path: String,
}

impl PublicUrl {
    /// Returns the origin as browsers serialize it: without a default port, in lower case.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the domain name of the host, in lower case. `None` if the host is an IP address.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Returns the path prefix without a slash at its end, or `/` if there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// Reports whether clients use TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// Returns the URL without a slash at its end.
    #[must_use]
    pub fn without_slash(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a URL such as https://tasks.example.org or https://example.org/tasks";
        let url = Url::parse(text).map_err(|_| expected)?;
        let is_plain =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if !["http", "https"].contains(&url.scheme()) || !is_plain {
            return Err(expected);
        }
        // Cookies could not have such a path (RFC 6265, section 4.1.1).
        if url.path().contains([';', ',']) {
            return Err("the path of the URL must not contain semicolons or commas");
        }
        let (domain, path) = (url.domain().map(str::to_owned), url.path().trim_end_matches('/').to_owned());
        Ok(Self { origin: url.origin().ascii_serialization(), domain, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalized_as_browsers_do() {
        for (text, origin, path) in [
            ("https://tasks.example.org", "https://tasks.example.org", "/"),
            ("https://tasks.example.org/", "https://tasks.example.org", "/"),
            ("HTTPS://Tasks.Example.org:443/", "https://tasks.example.org", "/"),
            ("https://example.org:8443/apps/tasks/", "https://example.org:8443", "/apps/tasks"),
            ("http://[::1]:8080/a b", "http://[::1]:8080", "/a%20b"),
        ] {
            let url: PublicUrl = text.parse().expect(text);
            assert_eq!((url.origin(), url.path()), (origin, path));
            assert_eq!(url.is_https(), origin.starts_with("https"));
        }
    }

    #[test]
    fn urls_that_name_no_deployment_are_refused() {
        for text in [
            "",
            "tasks.example.org",
            "/tasks",
            "ftp://example.org",
            "https://",
            "https://u@example.org",
            "https://:p@example.org",
            "https://example.org?q",
            "https://example.org#f",
            "https://example.org/a;b",
            "https://example.org/a,b",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text:?}");
        }
    }
}
