//! Answers about changes: where one ends, and from where the next goes on.

use prost::Message;
use service_kit::page::PageTokens;
use taskey_proto::task::v1::{Task, TaskChange};
use uuid::Uuid;

use crate::{
    model::sync::SyncPoint,
    page::field_bytes,
    store::changes::{Change, ChangePage},
};

/// Changes that are told at once.
pub(crate) struct SyncPage {
    pub(crate) changes: Vec<TaskChange>,
    pub(crate) token: String,
    pub(crate) point: SyncPoint,
    /// Whether there is more at this moment.
    pub(crate) has_more: bool,
}

/// Makes an answer of changes, of which there is one more than `size` if there are more. It ends early rather than exceed
/// `max_bytes`.
pub(crate) fn sync_page(tokens: &PageTokens, owner: Uuid, max_bytes: usize, size: usize, read: ChangePage) -> SyncPage {
    let ChangePage { since, changes, last } = read;
    let mut told = Vec::new();
    let (mut point, mut has_more) = (SyncPoint::end(last), false);
    let mut room = max_bytes.saturating_sub(field_bytes(point.seal(tokens, owner).len()) + 2);
    let mut reached = since;
    for change in changes {
        let here = SyncPoint { change: change.sequence(), id: change.id(), base: since.base };
        let change = into_pb(change);
        let bytes = field_bytes(change.encoded_len());
        // An answer without any change would lead nowhere.
        if told.len() == size || (bytes > room && !told.is_empty()) {
            (point, has_more) = (reached, true);
            break;
        }
        room = room.saturating_sub(bytes);
        reached = here;
        told.push(change);
    }
    SyncPage { changes: told, token: point.seal(tokens, owner), point, has_more }
}

fn into_pb(change: Change) -> TaskChange {
    let id = change.id().to_string();
    match change {
        Change::Is(task) => TaskChange { id, task: Some(Task::from(*task)), removed: false },
        Change::Removed(_) => TaskChange { id, task: None, removed: true },
    }
}
