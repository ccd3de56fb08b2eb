//! Positions in the change feed of an owner.

use service_kit::{epoch::Epoch, page::PageTokens, status::ApiError};
use uuid::Uuid;

use crate::error::{sync_token_expired, sync_token_invalid};

/// The arguments of sync tokens, which make page tokens invalid as sync tokens.
const ARGUMENTS: &[u8] = b"sync";

/// A position in the change feed. It is followed by the changes of mutation `change` to tasks with ids after `id`,
/// and then by the changes of later mutations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncPoint {
    /// The epoch in which the sequence numbers were assigned.
    pub(crate) epoch: Epoch,
    /// The sequence number of a mutation.
    pub(crate) change: i64,
    pub(crate) id: Uuid,
    /// The sequence number of a mutation. The client never received the tasks that were removed up to this mutation, or
    /// has removed them, so it does not need their tombstones.
    pub(crate) base: i64,
}

impl SyncPoint {
    /// Returns the position after all changes of a mutation.
    pub(crate) fn end(epoch: Epoch, change: i64) -> Self {
        Self { epoch, change, id: Uuid::max(), base: change }
    }

    /// Reports whether the point is after all changes of its mutation. The points of pages that end early are not.
    pub(crate) fn is_end(&self) -> bool {
        self.id == Uuid::max()
    }

    /// Opens a sync token. Returns `None` if it is empty.
    ///
    /// # Errors
    /// SYNC_TOKEN_INVALID if it was not issued to this caller.
    pub(crate) fn open(tokens: &PageTokens, owner: Uuid, token: &str) -> Result<Option<Self>, ApiError> {
        let opened = tokens.open_any(owner, ARGUMENTS, token).map_err(|_| sync_token_invalid())?;
        opened.map(|(epoch, bytes)| Self::decode(epoch, &bytes).ok_or_else(sync_token_invalid)).transpose()
    }

    pub(crate) fn seal(self, tokens: &PageTokens, owner: Uuid) -> String {
        let bytes = [&self.change.to_be_bytes()[..], self.id.as_bytes(), &self.base.to_be_bytes()].concat();
        tokens.seal_in(self.epoch, owner, ARGUMENTS, &bytes)
    }

    fn decode(epoch: Epoch, bytes: &[u8]) -> Option<Self> {
        let (change, rest) = bytes.split_first_chunk()?;
        let (id, base) = rest.split_first_chunk()?;
        let number = i64::from_be_bytes;
        Some(Self { epoch, change: number(*change), id: Uuid::from_bytes(*id), base: number(base.try_into().ok()?) })
    }

    /// Checks that the point is in the current epoch and not after the last mutation, because the database may have lost
    /// mutations, and that the tombstones since this point are still stored. `forgotten` is the last mutation with a
    /// deleted tombstone.
    ///
    /// # Errors
    /// SYNC_TOKEN_EXPIRED if a check fails.
    pub(crate) fn check(self, epoch: Epoch, forgotten: i64, last: i64) -> Result<Self, ApiError> {
        let is_valid = self.epoch == epoch && self.base >= forgotten && self.change <= last;
        if is_valid { Ok(self) } else { Err(sync_token_expired()) }
    }
}
