//! Pages of a list: where one ends, and the token with which the next one begins.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use service_kit::status::Refusal;
use taskey_proto::task::v1::{ListTasksResponse, Task};
use uuid::Uuid;

use crate::{
    error::page_token_invalid,
    model::{ListQuery, TaskRow},
};

/// The form of the token. A later form has another number, so that no token of one passes for one of the other.
const VERSION: u8 = 1;

const CURSOR_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = 1 + CURSOR_BYTES + TAG_BYTES;

/// A page token in a response: in base64url, with the number and the length of the field.
const TOKEN_FIELD_BYTES: usize = TOKEN_BYTES.div_ceil(3) * 4 + 2;

/// Seals and opens page tokens: `base64url(version ‖ cursor ‖ HMAC-SHA256(version ‖ owner ‖ cursor ‖ arguments))`, the
/// last part cut to 16 bytes. A token is good for one owner and one query.
pub(crate) struct PageTokens(hmac::Key);

impl PageTokens {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of the page that begins after the task `cursor`.
    pub(crate) fn seal(&self, owner: Uuid, query: &ListQuery, cursor: Uuid) -> String {
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.push(VERSION);
        token.extend(cursor.as_bytes());
        token.extend(self.tag(owner, query, cursor));
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// The task after which the page of a query begins; none for the first page.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not sealed for this owner and this query.
    pub(crate) fn open(&self, owner: Uuid, query: &ListQuery) -> Result<Option<Uuid>, Refusal> {
        if query.page_token.is_empty() {
            return Ok(None);
        }
        let mut token = [0; TOKEN_BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(&query.page_token, &mut token);
        if length != Ok(TOKEN_BYTES) || token[0] != VERSION {
            return Err(page_token_invalid());
        }
        let (cursor, tag) = token[1..].split_at(CURSOR_BYTES);
        let cursor = Uuid::from_slice(cursor).expect("the slice is as long as a UUID");
        verify_slices_are_equal(&self.tag(owner, query, cursor), tag).map_err(|_| page_token_invalid())?;
        Ok(Some(cursor))
    }

    // Every part but the last has a fixed length, so no two inputs look alike.
    fn tag(&self, owner: Uuid, query: &ListQuery, cursor: Uuid) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [&[VERSION][..], owner.as_bytes(), cursor.as_bytes(), &query.arguments()] {
            context.update(part);
        }
        let tag = context.sign();
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 makes 32 bytes")
    }
}

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
            page.next_page_token = tokens.seal(owner, query, last);
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
