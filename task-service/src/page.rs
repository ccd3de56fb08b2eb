//! Pages of a list: where one ends.

use prost::Message;
use service_kit::page::{PageTokens, TOKEN_FIELD_BYTES};
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
    let mut room = max_bytes.saturating_sub(TOKEN_FIELD_BYTES);
    let mut last = Uuid::nil();
    for row in rows {
        let id = row.id;
        let task = Task::from(row);
        let bytes = field_bytes(&task);
        // A page without any task would lead nowhere.
        let full = page.tasks.len() == query.page_size || (bytes > room && !page.tasks.is_empty());
        if full {
            page.next_page_token = tokens.seal(owner, &query.arguments(), last);
            break;
        }
        room = room.saturating_sub(bytes);
        last = id;
        page.tasks.push(task);
    }
    page
}

/// What a task takes in a response, with the number and the length of the field.
fn field_bytes(task: &Task) -> usize {
    let length = task.encoded_len();
    1 + prost::length_delimiter_len(length) + length
}
