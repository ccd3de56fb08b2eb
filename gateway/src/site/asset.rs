//! Files that the gateway serves itself. They are compiled in and have entity tags.

use std::{io::Read, sync::OnceLock};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::read::{GzDecoder, GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::{
    http::{negotiation::accepts_gzip, response},
    semantics,
};

/// The content type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The content type of a style sheet.
pub const CSS: &str = "text/css; charset=utf-8";
/// The content type of a script.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The content type of an SVG image.
pub const SVG: &str = "image/svg+xml";

/// A file in plain and compressed form. The missing form is created from the other when it is first requested.
#[derive(Clone, Debug)]
pub struct Asset {
    plain: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
    hash: String,
    content_type: &'static str,
    headers: HeaderMap,
}

impl Asset {
    /// Creates a file. Clients may cache it for 5 minutes.
    #[must_use]
    pub fn new(content_type: &'static str, plain: impl Into<Bytes>) -> Self {
        let plain = plain.into();
        let asset = Self::without_content(content_type, &plain);
        Self { plain: plain.into(), ..asset }
    }

    /// Creates a file from its gzip form.
    #[must_use]
    pub fn compressed(content_type: &'static str, gzip: &'static [u8]) -> Self {
        Self { gzip: Bytes::from_static(gzip).into(), ..Self::without_content(content_type, gzip) }
    }

    fn without_content(content_type: &'static str, bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let hash = BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
        Self { plain: OnceLock::new(), gzip: OnceLock::new(), hash, content_type, headers }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Returns the response to a GET with these headers.
    #[must_use]
    pub fn response(&self, request: &HeaderMap) -> Response<Body> {
        let is_gzip = accepts_gzip(request);
        // The plain and the compressed form have different tags (RFC 9110, section 8.8.3.3).
        let tag = format!("\"{}{}\"", self.hash, if is_gzip { "-gzip" } else { "" });
        let tag = HeaderValue::try_from(tag).expect("base64 is allowed in a header");
        let mut response = if semantics::matches_if_none_match(request, &tag) {
            response::not_modified()
        } else {
            let mut response = Response::new(Body::new(Full::new(self.content(is_gzip))));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if is_gzip {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        };
        response.headers_mut().extend(self.headers.clone());
        response.headers_mut().insert(header::ETAG, tag);
        response
    }

    fn content(&self, is_gzip: bool) -> Bytes {
        let (wanted, other) = if is_gzip { (&self.gzip, &self.plain) } else { (&self.plain, &self.gzip) };
        let convert = || {
            let (other, mut converted) = (other.get().expect("an asset is created with one of the forms"), Vec::new());
            let result = if is_gzip {
                GzEncoder::new(&other[..], flate2::Compression::best()).read_to_end(&mut converted)
            } else {
                GzDecoder::new(&other[..]).read_to_end(&mut converted)
            };
            result.expect("a compiled-in file can be compressed and decompressed");
            converted.into()
        };
        wanted.get_or_init(convert).clone()
    }
}
