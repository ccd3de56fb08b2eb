//! Pages of lists: how large one is, and the token with which the next one begins.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use crate::status::Refusal;

/// The size of a page if the caller says nothing.
pub const DEFAULT_SIZE: usize = 50;

/// A larger page is cut to this (AIP-158).
pub const MAX_SIZE: usize = 500;

/// The form of the token. A later form has another number, so that no token of one passes for one of the other.
const VERSION: u8 = 1;

const CURSOR_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = 1 + CURSOR_BYTES + TAG_BYTES;

/// A page token in a response: in base64url, with the number and the length of the field.
pub const TOKEN_FIELD_BYTES: usize = TOKEN_BYTES.div_ceil(3) * 4 + 2;

/// The size of the page that a caller asks for.
///
/// # Errors
/// What is wrong with it, in words for a person.
pub fn size(asked: i32) -> Result<usize, &'static str> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err("must not be negative"),
    }
}

/// Seals and opens page tokens: `base64url(version ‖ cursor ‖ HMAC-SHA256(version ‖ owner ‖ cursor ‖ arguments))`, the
/// last part cut to 16 bytes. A token is good for one caller and one query, of which `arguments` is whatever must not
/// change between pages.
pub struct PageTokens(hmac::Key);

impl PageTokens {
    /// Tokens under a key that all replicas know.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of the page that begins after the row `cursor`.
    #[must_use]
    pub fn seal(&self, owner: Uuid, arguments: &[u8], cursor: Uuid) -> String {
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.push(VERSION);
        token.extend(cursor.as_bytes());
        token.extend(self.tag(owner, arguments, cursor));
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// The row after which a page begins; none for the first page, whose token is empty.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not sealed for this owner and these arguments.
    pub fn open(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<Uuid>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; TOKEN_BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(token, &mut bytes);
        if length != Ok(TOKEN_BYTES) || bytes[0] != VERSION {
            return Err(invalid());
        }
        let (cursor, tag) = bytes[1..].split_at(CURSOR_BYTES);
        let cursor = Uuid::from_slice(cursor).expect("the slice is as long as a UUID");
        verify_slices_are_equal(&self.tag(owner, arguments, cursor), tag).map_err(|_| invalid())?;
        Ok(Some(cursor))
    }

    /// Cuts rows, of which one more was read than a page holds if there are more, to the page, and seals the token of
    /// the next page; it is empty if this is the last.
    #[must_use]
    pub fn cut<T>(
        &self,
        owner: Uuid,
        arguments: &[u8],
        mut rows: Vec<T>,
        size: usize,
        id: impl Fn(&T) -> Uuid,
    ) -> (Vec<T>, String) {
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_| more);
        let token = last.map(|last| self.seal(owner, arguments, id(last))).unwrap_or_default();
        (rows, token)
    }

    // Every part but the last has a fixed length, so no two inputs look alike.
    fn tag(&self, owner: Uuid, arguments: &[u8], cursor: Uuid) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [&[VERSION][..], owner.as_bytes(), cursor.as_bytes(), arguments] {
            context.update(part);
        }
        let tag = context.sign();
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 makes 32 bytes")
    }
}

fn invalid() -> Refusal {
    let message = "the page token was not issued to this caller for this query";
    Refusal::new(Code::InvalidArgument, ErrorReason::PageTokenInvalid, message).field("page_token", message)
}
