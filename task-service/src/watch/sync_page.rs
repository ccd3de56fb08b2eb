//! Pages of changes, and the tokens of the next pages.

use prost::Message;
use service_kit::{clock::Clock, db::Db, epoch::Epoch, page::PageTokens, status::ApiError};
use taskey_proto::task::v1::{TaskChange, TaskListChange};
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

    /// Like [`page`](Self::page), without the changes after `end`, which is the point after the page even if fewer changes
    /// are left before it. `has_more` is what it was when a page ended there first, so that both are the same.
    ///
    /// # Errors
    /// SYNC_TOKEN_EXPIRED, and those of the database.
    pub(crate) async fn page_until(
        &self,
        owner: Uuid,
        since: Option<SyncPoint>,
        end: SyncPoint,
        size: usize,
    ) -> Result<SyncPage, ApiError> {
        let mut changes = changes::list_after(&self.db, owner, self.clock.now(), since, size + 1).await?;
        changes.changes.retain(|change| (change.sequence(), change.id()) <= (end.change, end.id));
        let page = sync_page(&self.tokens, owner, self.max_bytes, size, changes);
        if page.has_more {
            return Ok(page);
        }
        Ok(SyncPage { token: end.seal(&self.tokens, owner), point: end, has_more: !end.is_end(), ..page })
    }
}

/// Changes that are sent together.
pub(crate) struct SyncPage {
    pub(crate) changes: Vec<TaskChange>,
    pub(crate) list_changes: Vec<TaskListChange>,
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
    let (mut tasks, mut lists) = (Vec::new(), Vec::new());
    let (mut point, mut has_more) = (SyncPoint::end(since.epoch, last), false);
    // The 2 bytes are the field `has_more` or `checkpoint`.
    let mut room = max_bytes.saturating_sub(field_bytes(point.seal(tokens, owner).len()) + 2);
    let mut reached = since;
    for change in changes {
        let change_point = SyncPoint { change: change.sequence(), id: change.id(), ..since };
        let (task, list) = to_messages(change, since.epoch);
        let length = task.as_ref().map_or(0, Message::encoded_len) + list.as_ref().map_or(0, Message::encoded_len);
        let bytes = field_bytes(length);
        let count = tasks.len() + lists.len();
        // A page has at least one change, so that clients make progress.
        if count == size || (bytes > room && count > 0) {
            (point, has_more) = (reached, true);
            break;
        }
        room = room.saturating_sub(bytes);
        reached = change_point;
        tasks.extend(task);
        lists.extend(list);
    }
    SyncPage { changes: tasks, list_changes: lists, token: point.seal(tokens, owner), point, has_more }
}

/// Returns the change of a task or of a list.
fn to_messages(change: Change, epoch: Epoch) -> (Option<TaskChange>, Option<TaskListChange>) {
    let id = change.id().to_string();
    match change {
        Change::Task(task) => (Some(TaskChange { id, task: Some(response::task(*task, epoch)), removed: false }), None),
        Change::List(list) => {
            let task_list = Some(response::task_list(list, epoch));
            (None, Some(TaskListChange { id, task_list, removed: false }))
        }
        Change::Removed(tombstone) if tombstone.is_list => {
            (None, Some(TaskListChange { id, task_list: None, removed: true }))
        }
        Change::Removed(_) => (Some(TaskChange { id, task: None, removed: true }), None),
    }
}
