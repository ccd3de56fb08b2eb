//! The replicas of a service behind the gateway.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;

/// A replica of a service, and whether it serves.
#[derive(Debug)]
pub struct Replica {
    origin: Uri,
    serves: AtomicBool,
}

impl Replica {
    /// Creates a replica at this URL. It is assumed to serve until the first health check.
    #[must_use]
    pub fn new(origin: Uri) -> Self {
        Self { origin, serves: AtomicBool::new(true) }
    }

    /// Returns its URL.
    #[must_use]
    pub fn origin(&self) -> &Uri {
        &self.origin
    }

    /// Reports whether it serves, according to the last health check or attempt to connect.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Stores whether it serves. Calls are made to it only while it does, unless no replica does.
    pub fn set_serving(&self, serves: bool) {
        self.serves.store(serves, Ordering::Relaxed);
    }

    /// Returns the URI at this replica with the path and the query of `uri`.
    #[must_use]
    pub fn uri(&self, uri: &Uri) -> Uri {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = uri.path_and_query().cloned().or(parts.path_and_query);
        Uri::from_parts(parts).unwrap_or_else(|_| self.origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_has_the_origin_of_the_replica() {
        let replica = Replica::new(Uri::from_static("https://task.example.org:50052"));
        for (uri, expected) in [
            ("/a.B/C?d", "https://task.example.org:50052/a.B/C?d"),
            ("http://gateway/a.B/C", "https://task.example.org:50052/a.B/C"),
        ] {
            assert_eq!(replica.uri(&uri.parse().expect("a URI")), expected);
        }
    }
}
