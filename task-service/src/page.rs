//! Pages of a list: where one ends.

use prost::Message;
use service_kit::page::PageTokens;
use taskey_proto::task::v1::{ListTasksResponse, Task};
use uuid::Uuid;

use crate::model::{ListQuery, TaskRow};

/// Makes a page of the rows that a query found, of which there is one more than the page may hold if there is a next
/// page. The page ends early rather than exceed `max_bytes`.
pub(crate) fn fill(
    tokens: &PageTokens,
    owner: Uuid,
    max_bytes: usize,
    query: &ListQuery,
    rows: Vec<TaskRow>,
) -> ListTasksResponse {
    let mut page = ListTasksResponse::default();
    let (mut room, mut last) = (max_bytes, Vec::new());
    for row in rows {
        let cursor = query.order.cursor(&row).encode();
        let task = Task::from(row);
        let bytes = field_bytes(task.encoded_len());
        let full = page.tasks.len() == query.page_size || bytes + field_bytes(PageTokens::length(&cursor)) > room;
        // A page without any task would lead nowhere.
        if full && !page.tasks.is_empty() {
            page.next_page_token = tokens.seal(owner, &query.arguments(), &last);
            break;
        }
        room = room.saturating_sub(bytes);
        last = cursor;
        page.tasks.push(task);
    }
    page
}

/// What a field of this length takes in a response, with its number and its length.
pub(crate) fn field_bytes(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}
