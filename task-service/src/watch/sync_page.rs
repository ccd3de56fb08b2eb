//! Pages of changes, and the tokens of the next pages.

use prost::Message;
use service_kit::{clock::Clock, db::Db, epoch::Epoch, page::PageTokens, status::ApiError};
use taskey_proto::task::v1::TaskChange;
use uuid::Uuid;

use crate::{
    model::sync::SyncPoint,
    page::field_bytes,
    response,
    store::changes::{self, Change, ChangePage},
};

/// Reads changes. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct ChangeReader {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) tokens: PageTokens,
    /// Maximum size of a page, which ends early rather than exceed it.
    pub(crate) max_bytes: usize,
}

impl ChangeReader {
    /// Returns up to `size` changes of an owner since a sync point, or since the beginning.
    ///
    /// # Errors
    /// SYNC_TOKEN_EXPIRED, and those of the database.
    pub(crate) async fn page(&self, owner: Uuid, since: Option<SyncPoint>, size: usize) -> Result<SyncPage, ApiError> {
        let changes = changes::list_after(&self.db, owner, self.clock.now(), since, size + 1).await?;
        Ok(sync_page(&self.tokens, owner, self.max_bytes, size, changes))
    }
}

/// Changes that are sent together.
pub(crate) struct SyncPage {
    pub(crate) changes: Vec<TaskChange>,
    /// The sync token for `point`.
    pub(crate) token: String,
    /// The point after the changes.
    pub(crate) point: SyncPoint,
    /// Whether there were more when the page was read.
    pub(crate) has_more: bool,
}

/// Returns a page of at most `size` changes. `read` has one change more if there is a next page. The page ends early
/// rather than exceed `max_bytes`.
fn sync_page(tokens: &PageTokens, owner: Uuid, max_bytes: usize, size: usize, read: ChangePage) -> SyncPage {
    let ChangePage { since, changes, last } = read;
    let mut page = Vec::new();
    let (mut point, mut has_more) = (SyncPoint::end(since.epoch, last), false);
    // The 2 bytes are the field `has_more` or `checkpoint`.
    let mut room = max_bytes.saturating_sub(field_bytes(point.seal(tokens, owner).len()) + 2);
    let mut reached = since;
    for change in changes {
        let change_point = SyncPoint { change: change.sequence(), id: change.id(), ..since };
        let change = to_message(change, since.epoch);
        let bytes = field_bytes(change.encoded_len());
        // A page has at least one change, so that clients make progress.
        if page.len() == size || (bytes > room && !page.is_empty()) {
            (point, has_more) = (reached, true);
            break;
        }
        room = room.saturating_sub(bytes);
        reached = change_point;
        page.push(change);
    }
    SyncPage { changes: page, token: point.seal(tokens, owner), point, has_more }
}

fn to_message(change: Change, epoch: Epoch) -> TaskChange {
    let id = change.id().to_string();
    match change {
        Change::Updated(task) => TaskChange { id, task: Some(response::task(*task, epoch)), removed: false },
        Change::Removed(_) => TaskChange { id, task: None, removed: true },
    }
}
