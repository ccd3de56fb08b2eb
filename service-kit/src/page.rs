//! Pagination of lists: page sizes and page tokens.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;
use uuid::Uuid;

use crate::{
    epoch::{CurrentEpoch, Epoch},
    status::ApiError,
};

/// The page size if the request does not set one.
pub const DEFAULT_SIZE: usize = 50;

/// Larger page sizes are reduced to this (AIP-158).
pub const MAX_SIZE: usize = 500;

/// The version of the token format. The tag depends on it, so that a token of one version is invalid in another.
const VERSION: u8 = 3;

const TAG_BYTES: usize = 16;

/// Longer tokens are rejected without being decoded.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Returns the page size for the requested one.
///
/// # Errors
/// If it is negative, with a message for the caller.
pub fn size(requested: i32) -> Result<usize, &'static str> {
    match usize::try_from(requested) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err("must not be negative"),
    }
}

/// Creates and verifies page tokens: `base64url(version ‖ epoch ‖ tag ‖ cursor)`, where the tag is
/// `HMAC-SHA256(version ‖ epoch ‖ owner ‖ length of the cursor ‖ cursor ‖ arguments)`, truncated to 16 bytes. A token is
/// valid for one caller, one query and one epoch of the database; `arguments` contains everything that must not change
/// between pages.
#[derive(Clone)]
pub struct PageTokens {
    key: hmac::Key,
    epoch: CurrentEpoch,
}

impl PageTokens {
    /// Creates and verifies tokens with a key that all replicas share.
    #[must_use]
    pub fn new(key: &[u8; 32], epoch: CurrentEpoch) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), epoch }
    }

    /// Returns the epoch of the tokens that are created now.
    #[must_use]
    pub fn epoch(&self) -> &CurrentEpoch {
        &self.epoch
    }

    /// Returns the token of the page that begins after `cursor`.
    #[must_use]
    pub fn seal(&self, owner: Uuid, arguments: &[u8], cursor: &[u8]) -> String {
        self.seal_in(self.epoch.get(), owner, arguments, cursor)
    }

    /// Like [`seal`](Self::seal), for a cursor that was read in this epoch.
    #[must_use]
    pub fn seal_in(&self, epoch: Epoch, owner: Uuid, arguments: &[u8], cursor: &[u8]) -> String {
        let tag = self.tag(epoch, owner, arguments, cursor);
        BASE64_URL_SAFE_NO_PAD.encode([&[VERSION], &epoch.to_bytes()[..], &tag, cursor].concat())
    }

    /// Returns the length of the token for `cursor`.
    #[must_use]
    pub fn length(cursor: &[u8]) -> usize {
        base64::encoded_len(1 + Epoch::BYTES + TAG_BYTES + cursor.len(), false).unwrap_or(usize::MAX)
    }

    /// Returns the cursor after which a page begins, or `None` for the first page, whose token is empty.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not sealed for this owner and these arguments in the current epoch.
    pub fn open(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<Vec<u8>>, ApiError> {
        match self.open_any(owner, arguments, token)? {
            Some((epoch, _)) if epoch != self.epoch.get() => Err(invalid()),
            opened => Ok(opened.map(|(_, cursor)| cursor)),
        }
    }

    /// Like [`open`](Self::open), for a token of any epoch, which is returned too.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not sealed for this owner and these arguments.
    pub fn open_any(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<(Epoch, Vec<u8>)>, ApiError> {
        if token.is_empty() {
            return Ok(None);
        }
        let sealed = if token.len() <= MAX_TOKEN_BYTES { BASE64_URL_SAFE_NO_PAD.decode(token).ok() } else { None };
        let sealed = sealed.ok_or_else(invalid)?;
        let (epoch, tag, cursor) = split(&sealed).ok_or_else(invalid)?;
        verify_slices_are_equal(&self.tag(epoch, owner, arguments, cursor), tag).map_err(|_| invalid())?;
        Ok(Some((epoch, cursor.to_vec())))
    }

    /// Like [`open`](Self::open), for a cursor that is the id of a row.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_id(&self, owner: Uuid, arguments: &[u8], token: &str) -> Result<Option<Uuid>, ApiError> {
        let cursor = self.open(owner, arguments, token)?;
        cursor.map(|cursor| Uuid::from_slice(&cursor).map_err(|_| invalid())).transpose()
    }

    /// Truncates `rows` to the page size, and returns them with the token of the next page, which is empty on the last
    /// page. The query must read one row more than the page size, so that the last page can be recognized.
    #[must_use]
    pub fn paginate<T>(
        &self,
        owner: Uuid,
        arguments: &[u8],
        mut rows: Vec<T>,
        size: usize,
        id: impl Fn(&T) -> Uuid,
    ) -> (Vec<T>, String) {
        let has_more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_| has_more);
        let token = last.map(|last| self.seal(owner, arguments, id(last).as_bytes())).unwrap_or_default();
        (rows, token)
    }

    // Each part but the last has a fixed length or follows its length, so different inputs have different encodings.
    fn tag(&self, epoch: Epoch, owner: Uuid, arguments: &[u8], cursor: &[u8]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        let length = u64::try_from(cursor.len()).unwrap_or(u64::MAX).to_be_bytes();
        for part in [&[VERSION][..], &epoch.to_bytes(), owner.as_bytes(), &length, cursor, arguments] {
            context.update(part);
        }
        let tag = context.sign();
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 returns 32 bytes")
    }
}

/// Splits a token of this version into its epoch, tag and cursor.
fn split(sealed: &[u8]) -> Option<(Epoch, &[u8], &[u8])> {
    let (&VERSION, rest) = sealed.split_first()? else { return None };
    let (epoch, rest) = rest.split_first_chunk()?;
    let (tag, cursor) = rest.split_at_checked(TAG_BYTES)?;
    Some((Epoch::from_bytes(*epoch), tag, cursor))
}

/// Returns the error for a page token that was not issued to this caller for this query.
#[must_use]
pub fn invalid() -> ApiError {
    let message = "the page token was not issued to this caller for this query";
    ApiError::new(Code::InvalidArgument, ErrorReason::PageTokenInvalid, message).field("page_token", message)
}
