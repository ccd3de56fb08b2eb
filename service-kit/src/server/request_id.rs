//! The id of a call, sent by the caller or generated. It is part of every log line and every error.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::random;

/// The header, or metadata key, of the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids of callers are ignored.
const MAX_BYTES: usize = 128;

/// The id of a call.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id that the caller sent, if it is printable ASCII and not too long, else a new one.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let from_caller = headers
            .get(REQUEST_ID)
            .filter(|id| (1..=MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
        let mut id = from_caller.cloned().unwrap_or_else(|| {
            let mut text = Uuid::encode_buffer();
            HeaderValue::from_str(random::id().hyphenated().encode_lower(&mut text)).expect("a UUID is ASCII")
        });
        // Each id is used once, so HPACK need not index it (RFC 7541, section 6.2.3).
        id.set_sensitive(true);
        Self(id)
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the id as a header value.
    #[must_use]
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}
