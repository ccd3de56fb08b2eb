//! Pages of `ListTasks`.

use prost::Message;
use service_kit::page::PageTokens;
use taskey_proto::task::v1::ListTasksResponse;
use uuid::Uuid;

use crate::{
    model::{ListQuery, TaskRow},
    response,
};

/// Returns a page of `rows`, which has one row more than the page size if there is a next page. The page ends early
/// rather than exceed `max_bytes`.
pub(crate) fn fill(
    tokens: &PageTokens,
    owner: Uuid,
    max_bytes: usize,
    query: &ListQuery,
    rows: Vec<TaskRow>,
) -> ListTasksResponse {
    let mut page = ListTasksResponse::default();
    let (epoch, mut room, mut last) = (tokens.epoch().get(), max_bytes, Vec::new());
    for row in rows {
        let cursor = query.order.cursor(&row).encode();
        let task = response::task(row, epoch);
        let bytes = field_bytes(task.encoded_len());
        let is_full = page.tasks.len() == query.page_size || bytes + field_bytes(PageTokens::length(&cursor)) > room;
        // A page has at least one task, so that clients make progress.
        if is_full && !page.tasks.is_empty() {
            page.next_page_token = tokens.seal(owner, &query.arguments(), &last);
            break;
        }
        room = room.saturating_sub(bytes);
        last = cursor;
        page.tasks.push(task);
    }
    page
}

/// Returns the encoded size of a field whose value has this length, including the length prefix and the tag, which is
/// one byte for field numbers up to 15.
pub(crate) fn field_bytes(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}
