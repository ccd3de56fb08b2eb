//! The site that passkeys belong to.

use aws_lc_rs::digest::{SHA256, digest};
use service_kit::public_url::PublicUrl;

/// A site: its origin, and its domain, which is the id to which passkeys are bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    id_hash: Vec<u8>,
    origin: String,
}

impl RelyingParty {
    /// Returns the site with this URL. `None` if browsers do not permit passkeys there: they require a domain name, and
    /// TLS except on the machine itself.
    #[must_use]
    pub fn new(public_url: &PublicUrl) -> Option<Self> {
        let id = public_url.domain()?.to_owned();
        let is_local = id == "localhost" || id.ends_with(".localhost");
        let id_hash = digest(&SHA256, id.as_bytes()).as_ref().to_vec();
        let is_permitted = public_url.is_https() || is_local;
        is_permitted.then(|| Self { id, id_hash, origin: public_url.origin().to_owned() })
    }

    /// Returns the id, which is a domain name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the SHA-256 of the id.
    #[must_use]
    pub fn id_hash(&self) -> &[u8] {
        &self.id_hash
    }

    /// Returns the origin of the pages that may use the passkeys.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_have_a_domain_name_and_tls() {
        for (url, id) in [
            ("https://tasks.example.org/app", Some("tasks.example.org")),
            ("https://Tasks.Example.org:8443", Some("tasks.example.org")),
            ("http://localhost:8080", Some("localhost")),
            ("http://taskey.localhost", Some("taskey.localhost")),
            ("http://tasks.example.org", None),
            ("https://192.0.2.1", None),
            ("https://[::1]:8080", None),
            ("http://notlocalhost", None),
        ] {
            let site = RelyingParty::new(&url.parse().expect(url));
            assert_eq!(site.as_ref().map(RelyingParty::id), id, "{url}");
        }
    }
}
