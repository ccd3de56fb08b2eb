//! The name of a call: taken from the caller or made here, in every log line and in every error.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::random;

/// The header, or metadata, that carries it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer one is not taken over.
const MAX_BYTES: usize = 128;

/// The id of a call.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id that the caller gave, if it is one of printable ASCII and not too long; else a new one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .filter(|id| (1..=MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
        let mut id = given.cloned().unwrap_or_else(|| {
            let mut text = Uuid::encode_buffer();
            HeaderValue::from_str(random::id().hyphenated().encode_lower(&mut text)).expect("a UUID is ASCII")
        });
        // No call has that of another: HTTP/2 need not remember it (RFC 7541, section 6.2.3).
        id.set_sensitive(true);
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header.
    #[must_use]
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}
