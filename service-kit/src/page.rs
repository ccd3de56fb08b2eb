//! Pages of lists: how large one is, and the token with which the next one begins.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use crate::status::ApiError;

/// The size of a page if the caller says nothing.
pub const DEFAULT_SIZE: usize = 50;

/// A larger page is cut to this (AIP-158).
pub const MAX_SIZE: usize = 500;

/// The form of the token. A later form has another number, so that no token of one passes for one of the other.
const VERSION: u8 = 2;

const TAG_BYTES: usize = 16;

/// A longer token is none of ours.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

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

/// Seals and opens tokens that say how far a caller has come in something: `base64url(version ‖ tag ‖ cursor)`, where the
/// tag is `HMAC-SHA256(version ‖ owner ‖ length of the cursor ‖ cursor ‖ arguments)`, cut to 16 bytes. A token is good for
/// one caller and one query, of which `arguments` is whatever must not change between pages.
#[derive(Clone)]
pub struct PageTokens(hmac::Key);

impl PageTokens {
    /// Tokens under a key that all replicas know.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of what begins after the place `cursor`.
    #[must_use]
    pub fn seal(&self, owner: Uuid, arguments: &[u8], cursor: &[u8]) -> String {
        let tag = self.tag(owner, arguments, cursor);
        BASE64_URL_SAFE_NO_PAD.encode([&[VERSION], &tag[..], cursor].concat())
    }

    /// How long the token of a place is.
    #[must_use]
    pub fn length(cursor: &[u8]) -> usize {
        base64::encoded_len(1 + TAG_BYTES + cursor.len(), false).unwrap_or(usize::MAX)
    }

    /// The place after which a page begins; none for the first page, whose token is empty.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not sealed for this owner and these arguments.
    pub fn open(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<Vec<u8>>, ApiError> {
        if token.is_empty() {
            return Ok(None);
        }
        let sealed = if token.len() <= MAX_TOKEN_BYTES { BASE64_URL_SAFE_NO_PAD.decode(token).ok() } else { None };
        let sealed = sealed.ok_or_else(invalid)?;
        let parts =
            sealed.split_first().and_then(|(version, rest)| Some((*version, rest.split_at_checked(TAG_BYTES)?)));
        let (version, (tag, cursor)) = parts.ok_or_else(invalid)?;
        verify_slices_are_equal(&self.tag(owner, arguments, cursor), tag).map_err(|_| invalid())?;
        if version == VERSION { Ok(Some(cursor.to_vec())) } else { Err(invalid()) }
    }

    /// As [`open`](Self::open), where the place is a row with this id.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_id(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<Uuid>, ApiError> {
        let cursor = self.open(owner, arguments, token)?;
        cursor.map(|cursor| Uuid::from_slice(&cursor).map_err(|_| invalid())).transpose()
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
        let token = last.map(|last| self.seal(owner, arguments, id(last).as_bytes())).unwrap_or_default();
        (rows, token)
    }

    // Every part but the last has a fixed length or is preceded by it, so no two inputs look alike.
    fn tag(&self, owner: Uuid, arguments: &[u8], cursor: &[u8]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        let length = u64::try_from(cursor.len()).unwrap_or(u64::MAX).to_be_bytes();
        for part in [&[VERSION][..], owner.as_bytes(), &length, cursor, arguments] {
            context.update(part);
        }
        let tag = context.sign();
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 makes 32 bytes")
    }
}

/// The error of a page token that is none of ours, or of another query.
#[must_use]
pub fn invalid() -> ApiError {
    let message = "the page token was not issued to this caller for this query";
    ApiError::new(Code::InvalidArgument, ErrorReason::PageTokenInvalid, message).field("page_token", message)
}
