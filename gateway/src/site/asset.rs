//! Files that the gateway serves itself. They are compiled in, and have entity tags.

use std::{io::Read, sync::OnceLock};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::read::{GzDecoder, GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::{
    http::{negotiation::takes_gzip, response},
    semantics::etag,
};

/// The type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The type of a style sheet.
pub const CSS: &str = "text/css; charset=utf-8";
/// The type of a script.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The type of a drawing.
pub const SVG: &str = "image/svg+xml";

/// A file, plain and compressed. Each form is made of the other at its first request.
#[derive(Clone, Debug)]
pub struct Asset {
    plain: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
    hash: String,
    content_type: &'static str,
    headers: HeaderMap,
}

impl Asset {
    /// A file of a type, which clients may keep for a while without asking for it again.
    #[must_use]
    pub fn new(content_type: &'static str, plain: impl Into<Bytes>) -> Self {
        let plain = plain.into();
        let asset = Self::without_content(content_type, &plain);
        Self { plain: plain.into(), ..asset }
    }

    /// The same of a file that was compressed before it was compiled in.
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

    /// The same file with another header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// The answer to a GET with these headers.
    #[must_use]
    pub fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let is_gzip = takes_gzip(request);
        // Each form has a tag of its own (RFC 9110, section 8.8.3.3).
        let tag = format!("\"{}{}\"", self.hash, if is_gzip { "-gzip" } else { "" });
        let tag = HeaderValue::try_from(tag).expect("Base64 may stand in a header");
        let mut response = if etag::is_known(request, &tag) {
            response::not_modified()
        } else {
            let mut response = Response::new(Body::new(Full::new(self.form(is_gzip))));
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

    fn form(&self, is_gzip: bool) -> Bytes {
        let (form, other) = if is_gzip { (&self.gzip, &self.plain) } else { (&self.plain, &self.gzip) };
        let make = || {
            let (other, mut made) = (other.get().expect("it has been made with one of them"), Vec::new());
            let read = if is_gzip {
                GzEncoder::new(&other[..], flate2::Compression::best()).read_to_end(&mut made)
            } else {
                GzDecoder::new(&other[..]).read_to_end(&mut made)
            };
            read.expect("what is compiled in can be read");
            made.into()
        };
        form.get_or_init(make).clone()
    }
}
