//! How far a caller has come in the changes of its tasks.

use service_kit::{page::PageTokens, status::ApiError};
use uuid::Uuid;

use crate::error::{sync_token_expired, sync_token_invalid};

/// The arguments of sync tokens, so that page tokens are no sync tokens.
const ARGUMENTS: &[u8] = b"sync";

/// A position in the change feed: what follows are the changes of later mutations, and those of the mutation `change`
/// after `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncPoint {
    pub(crate) change: i64,
    pub(crate) id: Uuid,
    /// The caller does not have, or has already removed, every task that was removed up to this mutation.
    pub(crate) base: i64,
}

impl SyncPoint {
    /// Returns the position after all changes of a mutation.
    pub(crate) fn end(change: i64) -> Self {
        Self { change, id: Uuid::max(), base: change }
    }

    /// Of a token; none if it is empty.
    ///
    /// # Errors
    /// SYNC_TOKEN_INVALID if it was not issued to this caller.
    pub(crate) fn open(tokens: &PageTokens, owner: Uuid, token: &str) -> Result<Option<Self>, ApiError> {
        let opened = tokens.open(owner, ARGUMENTS, token).map_err(|_| sync_token_invalid())?;
        opened.map(|bytes| Self::decode(&bytes).ok_or_else(sync_token_invalid)).transpose()
    }

    pub(crate) fn seal(self, tokens: &PageTokens, owner: Uuid) -> String {
        let bytes = [&self.change.to_be_bytes()[..], self.id.as_bytes(), &self.base.to_be_bytes()].concat();
        tokens.seal(owner, ARGUMENTS, &bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (change, rest) = bytes.split_first_chunk()?;
        let (id, base) = rest.split_first_chunk()?;
        let number = i64::from_be_bytes;
        Some(Self { change: number(*change), id: Uuid::from_bytes(*id), base: number(base.try_into().ok()?) })
    }

    /// Refuses a point from before it was forgotten what had been removed, and one beyond the last act: there is no
    /// knowing what a database that was restored from a backup has lost.
    ///
    /// # Errors
    /// SYNC_TOKEN_EXPIRED.
    pub(crate) fn check(self, forgotten: i64, last: i64) -> Result<Self, ApiError> {
        if self.base < forgotten || self.change > last { Err(sync_token_expired()) } else { Ok(self) }
    }
}
